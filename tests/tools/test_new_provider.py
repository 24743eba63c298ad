"""The scaffold writes files that are well-formed, found, and red."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from auterity.api.kinds import KINDS, Kind
from tests.fakes.server import ServedVendor
from tools.generate import ROOT
from tools.new_provider import FIRST_PARTY, RefusedError, skeletons, write

BOTH = pytest.mark.parametrize("rest", [True, False], ids=["rest", "by hand"])
EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


@BOTH
@EVERY_KIND
def test_skeletons_pass_the_formatter_and_the_linter(
    tmp_path: Path, kind: Kind, *, rest: bool
) -> None:
    made = skeletons(kind, "someVendor", rest=rest)
    write(tmp_path, made)

    for path in made:
        if not path.endswith(".py"):
            continue
        text = (tmp_path / path).read_text()
        for command in (["format", "--diff"], ["check", "--config", FIRST_PARTY]):
            # By its place in the checkout, which decides what rules hold.
            place = ["--stdin-filename", path, "-"]
            args = [sys.executable, "-m", "ruff", *command, *place]
            done = subprocess.run(
                args, cwd=ROOT, input=text, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr


@BOTH
def test_a_skeleton_is_a_provider_whose_every_verb_is_missing(
    tmp_path: Path, *, rest: bool
) -> None:
    write(tmp_path, skeletons(KINDS["VectorIndex"], "someVendor", rest=rest))
    code = """
import asyncio, importlib.util, sys
import auterity.transport
root = sys.argv[1]
auterity.transport.__path__.append(root + "/operator/auterity/transport")
spec = importlib.util.spec_from_file_location(
    "somevendor", root + "/operator/auterity/providers/somevendor.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
provider = module.SomeVendorVectorIndex
print(provider.kind, provider.vendor, provider.connection.vendor)
try:
    asyncio.run(provider(None).create(None, ""))
except (NotImplementedError, AttributeError) as error:
    print(type(error).__name__)
"""
    args = [sys.executable, "-c", code, str(tmp_path)]
    path = str(ROOT / "operator")
    done = subprocess.run(
        args, capture_output=True, text=True, check=False, env={"PYTHONPATH": path}
    )

    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[:3] == ["VectorIndex", "someVendor", "someVendor"]
    assert words[3] == ("AttributeError" if rest else "NotImplementedError")


@BOTH
def test_the_fake_covers_everything_the_suite_asks_for(*, rest: bool) -> None:
    made = skeletons(KINDS["AlertRoute"], "acme", rest=rest)

    (fake,) = [
        n for n in ast.parse(made["tests/fakes/acme.py"]).body if isinstance(n, ast.ClassDef)
    ]
    written = {n.name for n in fake.body if isinstance(n, ast.AsyncFunctionDef | ast.FunctionDef)}
    assert written == ServedVendor.__abstractmethods__ | {"__init__"}


def test_the_sample_has_a_connection_and_every_required_field() -> None:
    made = skeletons(KINDS["VectorIndex"], "acme", rest=True)

    connection, index = yaml.safe_load_all(made["samples/vector-indexes/acme.yaml"])
    assert connection["kind"] == "Connection"
    assert index["spec"] == {"connectionRef": {"name": "acme"}, "dimension": 1, "acme": {}}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    made = skeletons(KINDS["VectorIndex"], "acme", rest=True)
    mine = tmp_path / "tests/fakes/acme.py"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine\n")

    with pytest.raises(RefusedError, match=r"exists already: tests/fakes/acme\.py"):
        write(tmp_path, made)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


@pytest.mark.parametrize("vendor", ["Acme", "ac-me", "../acme", ""])
def test_a_vendor_has_a_name_in_camel_case(vendor: str) -> None:
    with pytest.raises(RefusedError, match="camelCase"):
        skeletons(KINDS["VectorIndex"], vendor, rest=True)
