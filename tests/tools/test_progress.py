"""Long steps show that they are alive, and what went wrong."""

import sys
import time

import pytest

from tools import progress
from tools.cache import InstallError


def test_a_long_step_without_a_terminal_repeats_its_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.05)

    with progress.step("building"):
        time.sleep(0.3)

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "building ... 0 s"
    assert lines[-1] == "building: 0.3 s"


def test_a_command_that_fails_shows_its_last_output() -> None:
    with pytest.raises(InstallError, match="exit status 3\nthe reason"):
        progress.run("building", [sys.executable, "-c", "print('the reason'); exit(3)"])


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(InstallError, match="no-such-program"):
        progress.run("building", ["no-such-program"])
