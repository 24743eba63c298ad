"""Kubeconfig files, as kubectl reads them."""

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from auterity.runtime import kubeconfig
from auterity.runtime.kubeconfig import KubeconfigError, context

CLUSTER = {"server": "https://one.example:6443"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path / "none")
    return tmp_path


def write(
    path: Path,
    cluster: dict[str, Any] | None = None,
    user: dict[str, Any] | None = None,
    name: str = "one",
    **more: Any,
) -> Path:
    config = {
        "clusters": [{"name": name, "cluster": cluster or CLUSTER}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **more}}],
        "current-context": name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))
    return path


def test_the_file_in_the_home_folder_is_the_default(folder: Path):
    write(folder / "home/.kube/config", user={"token": "t"}, namespace="search")
    found = context()
    assert (found.name, found.server, found.namespace) == ("one", CLUSTER["server"], "search")
    assert found.login().token == "t"


def test_of_several_files_the_first_counts_and_each_adds(folder: Path, monkeypatch):
    first = write(folder / "a", user={"token": "first"})
    second = write(folder / "b", user={"token": "second"})
    third = write(folder / "c", {"server": "https://two.example"}, name="two")
    paths = [first, folder / "missing", second, third]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, paths)))
    assert context().login().token == "first"
    assert context("two").server == "https://two.example"
    assert context("two").namespace == "default"


def test_paths_are_those_of_the_file_that_names_them(folder: Path, monkeypatch):
    (folder / "token").write_text("from a file\n")
    path = write(
        folder / "config",
        {**CLUSTER, "certificate-authority": "ca.pem"},
        {"client-certificate": "/etc/c.pem", "client-key": "k.pem", "tokenFile": "token"},
    )
    monkeypatch.setenv("KUBECONFIG", str(path))
    info = context().login()
    assert info.ca_path == str(folder / "ca.pem")
    assert info.certificate_path == "/etc/c.pem"
    assert info.private_key_path == str(folder / "k.pem")
    assert info.token == "from a file"


def test_data_goes_before_a_path(folder: Path, monkeypatch):
    data = base64.b64encode(b"x").decode()
    ca = {"certificate-authority": "ca.pem", "certificate-authority-data": data}
    monkeypatch.setenv("KUBECONFIG", str(write(folder / "config", {**CLUSTER, **ca})))
    info = context().login()
    assert (info.ca_path, info.ca_data) == (None, data)


def test_a_plugin_is_asked_as_kubectl_asks_it(folder: Path, monkeypatch):
    plugin = folder / "config.d/plugin"
    plugin.parent.mkdir()
    plugin.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "asked = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "token = '/'.join([asked['kind'], os.environ['REGION'], *sys.argv[1:]])\n"
        "print(json.dumps({**asked, 'status': {'token': token}}))\n"
    )
    plugin.chmod(0o700)
    run = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "config.d/plugin",
        "args": ["get-token"],
        "env": [{"name": "REGION", "value": "north"}],
        "interactiveMode": "Never",
    }
    monkeypatch.setenv("KUBECONFIG", str(write(folder / "config", user={"exec": run})))
    assert context().login().token == "ExecCredential/north/get-token"


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ({"command": "no-such-program", "installHint": "install it"}, r"no-such.*; install it"),
        ({"command": "false"}, r"false gave no credentials \(exit code 1\)"),
        ({"command": "echo", "args": ["{}"]}, "echo did not answer with an ExecCredential"),
    ],
)
def test_a_plugin_that_fails_says_why(folder: Path, monkeypatch, plugin, words: str):
    monkeypatch.setenv("KUBECONFIG", str(write(folder / "config", user={"exec": plugin})))
    with pytest.raises(KubeconfigError, match=words):
        context().login()


@pytest.mark.parametrize(
    ("cluster", "user", "words"),
    [
        ({"tls-server-name": "x"}, {}, "tls-server-name"),
        ({}, {"auth-provider": {"name": "gcp"}}, "use exec"),
    ],
)
def test_what_is_not_understood_is_refused(folder: Path, monkeypatch, cluster, user, words: str):
    path = write(folder / "config", {**CLUSTER, **cluster}, user)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(KubeconfigError, match=words):
        context().login()


def test_without_a_kubeconfig_the_pods_own_cluster_is_meant(folder: Path, monkeypatch):
    namespace = folder / "namespace"
    namespace.write_text("tools")
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", namespace)
    assert context().namespace == "tools"


def test_what_is_missing_is_named(folder: Path, monkeypatch):
    with pytest.raises(KubeconfigError, match="no kubeconfig was found"):
        context()
    path = write(folder / "config")
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(KubeconfigError, match="no context 'two'; it has: one"):
        context("two")
    path.write_text("contexts: []")
    with pytest.raises(KubeconfigError, match="no current context"):
        context()
    path.write_text("{")
    with pytest.raises(KubeconfigError, match="cannot be read"):
        context()
