"""No server outlives the one who started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.process import Process

WITH_A_CHILD = "sleep 300 & echo $!; wait"


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.02)


def test_stop_ends_the_whole_group(tmp_path: Path) -> None:
    server = Process(["sh", "-c", WITH_A_CHILD], log=tmp_path / "log")
    server.start()
    server.wait_until(lambda: server.tail() != "")
    child = int(server.tail())

    server.stop()

    assert not server.alive
    wait_until_gone(child)


def test_a_server_that_ignores_the_request_is_ended(tmp_path: Path) -> None:
    server = Process(["sh", "-c", "trap '' TERM; echo up; sleep 300"], log=tmp_path / "log")
    server.start()
    server.wait_until(lambda: server.tail() != "")

    server.stop(seconds=0.1)

    assert not server.alive


def test_a_server_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    server = Process(["sh", "-c", "echo bad flag; exit 1"], log=tmp_path / "log")
    server.start()

    with pytest.raises(RuntimeError, match="bad flag"):
        server.wait_until(lambda: False)
    server.stop()


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a child of its parent's death"
)
def test_a_killed_parent_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tools.process import Process\n"
        "server = Process(['sleep', '300'], log=Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True); time.sleep(300)"
    )
    args = [sys.executable, "-c", program, str(tmp_path / "log")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout
        server = int(parent.stdout.readline())
        assert not gone(server)

        os.kill(parent.pid, signal.SIGKILL)

    wait_until_gone(server)
