"""Commands as they are called; what they explain was made by the engine itself."""

from collections.abc import Callable, Iterator

import pytest

from auterity.cli.main import main
from tests.fakes.pinecone import Pinecone
from tests.unit.cli.stand_in import Beside, beside
from tests.unit.engine.conftest import harness, world

__all__ = ["harness", "pinecone", "run", "world"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call a command; its exit code, what it prints and what it complains of."""
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/kubeconfig")
    monkeypatch.setenv("HOME", "/nonexistent")

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["auterity", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return call


@pytest.fixture
def pinecone() -> Iterator[tuple[Pinecone, Beside]]:
    """A stand-in for Pinecone, in a thread of its own."""
    if (reason := Pinecone.missing()) is not None:
        pytest.skip(reason)
    with beside(Pinecone()) as found:
        yield found
        assert not found[0].violations
