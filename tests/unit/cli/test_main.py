"""The `auterity` command as such: fast help, one way to print, what needs no vendor."""

import importlib
import json
import os
import subprocess
import sys

import pytest
import yaml
from cyclopts import App
from cyclopts.command_spec import CommandSpec
from pydantic import BaseModel

from auterity.cli import output
from auterity.cli.main import app, main
from auterity.providers import catalogue
from tools.generate import ROOT, definitions, files

SPECS = {name: spec for name, spec in app._commands.items() if isinstance(spec, CommandSpec)}
HEAVY = {"pydantic", "aiohttp", "kopf", "httpx", "yaml", "prometheus_client", "uvloop", "orjson"}


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[object, str]:
    code = app(args, result_action="return_value", exit_on_error=False)
    return code, capsys.readouterr().out


def test_help_loads_nothing_but_itself():
    code = (
        "import sys; sys.argv = ['auterity', '--help']\n"
        "from auterity.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({n.split('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in SPECS)
    assert HEAVY & set(yaml.safe_load(done.stderr)) == set()


@pytest.mark.parametrize("name", SPECS)
def test_every_command_can_be_loaded_and_says_what_it_does(name: str):
    module, _, attribute = SPECS[name].import_path.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    if isinstance(target, App):
        assert target.default_command is not None or list(target)
    else:
        assert target.__doc__
    help_text = SPECS[name].help
    assert help_text
    assert help_text.endswith(".")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_knows_every_command(capsys, shell: str):
    _, script = run(capsys, "completion", shell)
    assert all(name in script for name in SPECS)
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_crds_are_those_of_the_generator(capsys):
    _, printed = run(capsys, "crds")
    made = [yaml.safe_load(text) for text in definitions(files(catalogue())).values()]
    by_name = sorted(yaml.safe_load_all(printed), key=lambda crd: crd["metadata"]["name"])
    assert by_name == sorted(made, key=lambda crd: crd["metadata"]["name"])


def test_the_crds_are_written_one_a_file(capsys, tmp_path):
    run(capsys, "crds", "-d", str(tmp_path / "crds"), "vectorindex", "Connection")
    names = {path.name for path in (tmp_path / "crds").iterdir()}
    assert names == {"vectorindexes.yaml", "connections.yaml"}
    with pytest.raises(output.Problem, match="no kind 'Nonesuch'"):
        run(capsys, "crds", "Nonesuch")


def test_providers_tells_all_there_is(capsys):
    _, printed = run(capsys, "providers", "-o", "json")
    assert {(one["kind"], one["vendor"]) for one in json.loads(printed)} == set(catalogue())
    _, printed = run(capsys, "providers", "vidx", "--vendor", "pinecone", "--wide")
    assert printed.splitlines()[1].startswith("VectorIndex  pinecone")
    assert len(printed.splitlines()) == 2
    with pytest.raises(output.Problem, match="not offered at nonesuch"):
        run(capsys, "providers", "--vendor", "nonesuch")


def test_the_version_is_told(capsys):
    assert "v1alpha1" in run(capsys, "version")[1]
    assert yaml.safe_load(run(capsys, "version", "-o", "yaml")[1])["auterity"]


def test_the_demo_says_where_it_is_to_be_had(capsys, monkeypatch):
    monkeypatch.setattr("auterity.cli.demo.__file__", "/a/b/c/d/demo.py")
    monkeypatch.setattr("auterity.cli.demo.find_spec", lambda _: None)
    with pytest.raises(output.Problem, match="make demo"):
        run(capsys, "demo")


def test_a_reader_that_has_enough_ends_it_quietly():
    done = subprocess.run(
        f"{sys.executable} -m auterity crds | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
    )
    assert done.stdout.startswith("apiVersion")
    assert done.stderr == ""


def test_what_is_told_steers_no_terminal_and_no_markdown(capsys):
    row = ("\x1b[31mred\x07", output.Styled("a|b <i> @team [x](y)", "green"))
    table = output.Table(("One", "Two"), [row], title="T")
    output.show(None, table)
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "\x07" not in told
    output.show(None, table, output="markdown")
    told = capsys.readouterr().out
    assert "a\\|b \\<i\\> @\N{WORD JOINER}team \\[x\\](y)" in told
    assert "@team" not in told


def test_a_pipe_gets_whole_lines(capsys):
    output.show(None, output.Table(("A",), [("x" * 500,)]), "y" * 500)
    lines = capsys.readouterr().out.splitlines()
    assert ("x" * 500) in lines
    assert ("y" * 500) in lines


def test_yaml_is_as_people_write_it():
    shared = {"a": 1}
    text = output.as_yaml({"list": [shared, shared], "text": "a\nb\n", "yes": "yes"}, {"b": 2})
    assert "&id" not in text
    assert "text: |\n" in text
    assert list(yaml.safe_load_all(text)) == [
        {"list": [shared, shared], "text": "a\nb\n", "yes": "yes"},
        {"b": 2},
    ]


def test_every_command_is_in_the_documentation():
    page = (ROOT / "docs" / "cli.md").read_text()
    assert [name for name in SPECS if f"`{name}`" not in page] == []


def test_what_was_not_foreseen_is_told_without_what_it_quotes(monkeypatch, capsys):
    def broken() -> None:
        Secret.model_validate({"token": ["tok-hunter2-hunter2"]})

    class Secret(BaseModel):
        token: str

    fake = App()
    fake.command(broken, name="version")
    monkeypatch.setattr(sys.modules[main.__module__], "app", fake)
    monkeypatch.setattr("sys.argv", ["auterity", "version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "unforeseen: ValidationError: token: string_type" in told
    assert "hunter2" not in told


def test_kinds_that_are_left_alone_are_named_as_they_are_called(run):
    code, _, told = run("run", "--without-kind=Nonesuch")
    assert code == 1
    assert "no kind of integration is called Nonesuch; there are " in told
    assert "ModelDeployment, ModelRoute" in told


def test_prices_that_are_not_right_end_the_operator_at_its_start(run, tmp_path):
    file = tmp_path / "prices.yaml"
    file.write_text("{vendor: acme, as_of: 2026-11-09, source: us, items: {gpu: cheap}}")
    code, _, told = run("run", f"--prices={file}")
    assert code == 1
    assert f"--prices: {file}: acme: items.gpu: Input should be a valid number" in told
    code, _, told = run("run", f"--prices={tmp_path / 'none.yaml'}")
    assert code == 1
    assert "none.yaml: cannot be read" in told
