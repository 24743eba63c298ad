"""What the image is made of: the wheel, and third parties of known hashes."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tools import cache, environments, progress
from tools.generate import ROOT

LOCK = ROOT / "requirements-image.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;]+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    return dict(PIN.findall(path.read_text()))


def test_every_third_party_is_known_by_hash() -> None:
    blocks = re.split(r"^(?=[a-z0-9])", LOCK.read_text(), flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins(LOCK))
    assert [block.split("==")[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_image_has_every_sdk_in_the_versions_that_are_tested() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = re.fullmatch(r"auterity\[(.*)\]", everything)
    assert named is not None
    assert set(named[1].split(",")) == extras.keys() - {"all"}

    wanted = [
        *PROJECT["dependencies"],
        *(one for name in named[1].split(",") for one in extras[name]),
    ]
    names = {re.split(r"[^\w.-]", one)[0].lower() for one in wanted}
    image, tested = pins(LOCK), pins(ROOT / "requirements.lock")
    assert names - image.keys() == set(), "run `make lock`"
    both = image.keys() & tested.keys()
    assert {n: image[n] for n in both} == {n: tested[n] for n in both}, "run `make lock`"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment made as the Dockerfile makes it."""
    folder = tmp_path_factory.mktemp("image")
    environments.create(folder / "venv")
    python, uv = str(folder / "venv/bin/python"), environments.uv()
    install = [uv, "pip", "install", "--quiet", f"--python={python}"]
    try:
        locked = ["--require-hashes", "--only-binary=:all:", f"--requirements={LOCK}"]
        progress.run("third parties of the image", [*install, *locked])
        build = [uv, "build", "--quiet", "--wheel", f"--out-dir={folder}", str(ROOT)]
        progress.run("the wheel", build)
        (wheel,) = folder.glob("*.whl")
        progress.run("its installation", [*install, "--no-deps", str(wheel)])
    except cache.InstallError as reason:
        pytest.skip(f"no wheel on this machine: {reason}")
    return folder / "venv" / "bin"


def run(*args: str | Path) -> str:
    done = subprocess.run(args, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)  # the first one fetches all of them
def test_the_wheel_runs_with_nothing_else(installed: Path) -> None:
    assert run(installed / "auterity", "--version").strip() == PROJECT["version"]
    assert "--without-kind" in run(installed / "auterity", "run", "--help")
    catalogue = "from auterity.providers import catalogue; print(len(catalogue()))"
    here = run(
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT / 'operator')!r}); {catalogue}",
    )
    assert run(installed / "python", "-I", "-c", catalogue) == here
