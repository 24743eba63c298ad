"""Completion through kubectl, in the words that it understands."""

import pytest

from auterity.cli import kubectl
from auterity.cli.kubectl import ABOUT_OBJECTS, candidates
from auterity.cli.main import app

FILES = 4


def test_commands_are_completed():
    assert candidates(["re"]) == (["reconcile", "resume"], FILES)
    words, _ = candidates([])
    assert {"why", "run", "doctor"} <= set(words)
    assert not [word for word in words if word.startswith("-")]


def test_commands_about_objects_exist():
    assert set(app) >= ABOUT_OBJECTS


def test_kinds_are_completed_and_wait_for_a_name():
    assert candidates(["why", "vec"]) == (["vectorindex/"], FILES | 2)
    words, _ = candidates(["tree", ""])
    assert {"connection/", "clusterconnection/", "alertroute/"} <= set(words)
    assert {"modelroute/", "budget/"} <= set(words)


@pytest.mark.parametrize("args", [["run", ""], ["why", "--"], ["why", "pod/"]])
def test_nothing_is_made_up(args: list[str], monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert candidates(args) == ([], FILES)


def test_a_cluster_that_does_not_answer_completes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "kubeconfig"
    path.write_text(
        "current-context: c\n"
        "contexts: [{name: c, context: {cluster: c}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert candidates(["why", "-n", "search", "vidx/"]) == ([], FILES)


def test_the_namespace_is_that_of_the_command_line():
    for args in (["why", "-n", "search"], ["why", "--namespace=search"]):
        assert kubectl._option(args, "--namespace", "-n") == "search"
    assert kubectl._option(["why", "-n"], "-n") is None


def test_the_directive_is_the_last_line(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["kubectl_complete-auterity", "why", "vect"])
    kubectl.complete()
    assert capsys.readouterr().out == "vectorindex/\n:6\n"
