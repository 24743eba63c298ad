"""The embedded control plane is a real Kubernetes API."""

import json
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools import cache
from tools.controlplane import Controlplane, KubectlError, Source, build, choose
from tools.loopback import request


@pytest.fixture(scope="module")
def controlplane() -> Iterator[Controlplane]:
    try:
        build()
    except cache.InstallError as reason:
        pytest.skip(f"no control plane on this machine: {reason}")
    with Controlplane() as running:
        yield running


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.2)


def test_the_server_says_its_version(controlplane: Controlplane) -> None:
    versions = json.loads(controlplane.kubectl("version", "-o", "json"))

    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"]
    assert versions["serverVersion"]["minor"] == "36"


def test_clients_verify_the_server(controlplane: Controlplane) -> None:
    config = json.loads(controlplane.kubeconfig.read_text())
    assert "certificate-authority-data" in config["clusters"][0]["cluster"]

    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        request("GET", f"{controlplane.url}/version", tls=ssl.create_default_context())


def test_credentials_are_for_the_owner_alone(controlplane: Controlplane) -> None:
    for name in ("kubeconfig", "tokens.csv", "server.key", "serviceaccounts.key"):
        assert (controlplane.folder / name).stat().st_mode & 0o077 == 0, name


def test_a_service_account_may_do_what_its_role_says(controlplane: Controlplane) -> None:
    kubectl = controlplane.kubectl
    kubectl("create", "serviceaccount", "reader")
    token = kubectl("create", "token", "reader").strip()
    tls = ssl.create_default_context(cafile=str(controlplane.ca))
    url = f"{controlplane.url}/api/v1/namespaces/default/configmaps"

    def read() -> None:
        request("GET", url, headers={"Authorization": f"Bearer {token}"}, tls=tls)

    with pytest.raises(OSError, match="403"):
        read()
    kubectl("create", "role", "reader", "--verb=list", "--resource=configmaps")
    kubectl("create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:reader")
    eventually(lambda: _succeeds(read))


def _succeeds(call: Callable[[], None]) -> bool:
    try:
        call()
    except OSError:
        return False
    return True


def test_a_deleted_namespace_goes_with_all_it_holds(controlplane: Controlplane) -> None:
    controlplane.kubectl("create", "namespace", "short-lived")
    controlplane.kubectl("-n", "short-lived", "create", "configmap", "content")

    controlplane.kubectl("delete", "namespace", "short-lived", "--timeout=30s")

    with pytest.raises(KubectlError, match="NotFound"):
        controlplane.kubectl("get", "namespace", "short-lived")


def test_what_an_object_owns_goes_with_it(controlplane: Controlplane) -> None:
    kubectl = controlplane.kubectl
    kubectl("create", "configmap", "owner")
    uid = kubectl("get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    owned = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "owned", "ownerReferences": [owner]},
    }
    kubectl("create", "-f", "-", input=json.dumps(owned))

    kubectl("delete", "configmap", "owner")

    eventually(lambda: kubectl("get", "secret", "owned", "--ignore-not-found") == "")


def test_a_restart_keeps_address_and_data(controlplane: Controlplane) -> None:
    controlplane.kubectl("create", "configmap", "kept")
    url = controlplane.url

    controlplane.restart_apiserver()

    assert controlplane.url == url
    assert "kept" in controlplane.kubectl("get", "configmap", "kept")


def test_a_folder_is_used_by_one_control_plane_at_a_time(controlplane: Controlplane) -> None:
    with pytest.raises(FileExistsError, match="running"):
        Controlplane(controlplane.folder).start()

    assert controlplane.answers("/readyz")


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()

    with pytest.raises(FileExistsError, match="something else"):
        Controlplane(tmp_path).start()

    assert (tmp_path / "precious").exists()


@pytest.mark.usefixtures("controlplane")
def test_kept_data_is_there_after_the_next_start(tmp_path: Path) -> None:
    with Controlplane(tmp_path / "kept", keep_data=True) as first:
        first.kubectl("create", "configmap", "kept")
    with Controlplane(tmp_path / "kept") as second:
        assert "kept" in second.kubectl("get", "configmap", "kept")
        assert second.url == first.url

    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("kubeconfig", "programs", "source"),
    [
        ("/some/kubeconfig", {"kind": 0, "docker": 0}, Source.EXTERNAL),
        ("", {"kind": 0, "docker": 0}, Source.KIND),
        ("", {"docker": 0}, Source.EMBEDDED),
        ("", {"kind": 0, "docker": 1}, Source.EMBEDDED),
    ],
)
def test_the_cluster_that_fits_the_machine_is_chosen(
    kubeconfig: str,
    programs: dict[str, int],
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, status in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", kubeconfig)

    assert choose() is source
