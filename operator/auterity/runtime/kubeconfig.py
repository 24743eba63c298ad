"""Which cluster a person means: kubeconfig files as kubectl reads them, else the pod's account."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import kopf
import yaml

from auterity.runtime.kube import login

JSON = dict[str, Any]
DEFAULT: Final = Path("~/.kube/config")
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
EXEC_TIMEOUT: Final = 120
"""Seconds: a plugin may have a person log in by a browser."""
_PATHS: Final = (
    ("clusters", "cluster", "certificate-authority"),
    ("users", "user", "client-certificate"),
    ("users", "user", "client-key"),
    ("users", "user", "tokenFile"),
)


class KubeconfigError(Exception):
    """No cluster can be reached by what the kubeconfig says; the text says what to mend."""


@dataclass(frozen=True, slots=True)
class Context:
    """A cluster, who we are there, and the namespace that is meant where none is given."""

    name: str
    server: str
    namespace: str
    login: Callable[[], kopf.ConnectionInfo]
    """Credentials. Raises KubeconfigError; may run the plugin that the kubeconfig names."""


def context(name: str | None = None) -> Context:
    """The named context, else the current one; in a pod without a kubeconfig its own cluster.

    Raises KubeconfigError.
    """
    files = _files()
    if not files:
        if not SERVICE_ACCOUNT.exists():
            raise KubeconfigError(
                "no kubeconfig was found: set KUBECONFIG, or write one to ~/.kube/config"
            )
        return Context("in-cluster", "", SERVICE_ACCOUNT.read_text().strip(), login)
    config = _merged(files)
    chosen = name or config["current-context"]
    if not chosen:
        raise KubeconfigError("the kubeconfig has no current context: give --context")
    found = _named(config, "contexts", chosen)
    cluster = _named(config, "clusters", str(found.get("cluster", "")))
    user = _named(config, "users", str(found.get("user", ""))) if found.get("user") else {}
    return Context(
        chosen,
        str(cluster.get("server", "")),
        str(found.get("namespace") or "default"),
        lambda: _info(cluster, user),
    )


def _files() -> list[Path]:
    named = os.environ.get("KUBECONFIG")
    paths = [Path(p) for p in named.split(os.pathsep) if p] if named else [DEFAULT]
    return [path for p in paths if (path := p.expanduser()).is_file()]


def _merged(files: list[Path]) -> JSON:
    """All files as one: of what several say, the first counts."""
    merged: JSON = {"current-context": None, "contexts": {}, "clusters": {}, "users": {}}
    for path in files:
        try:
            config = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise KubeconfigError(f"{path} cannot be read: {error}") from None
        merged["current-context"] = merged["current-context"] or config.get("current-context")
        for part, inner in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
            for item in config.get(part) or ():
                values = dict(item.get(inner) or {})
                for _, _, field in (p for p in _PATHS if p[0] == part):
                    if values.get(field):
                        values[field] = str(path.parent / values[field])
                if "exec" in values:
                    values["folder"] = str(path.parent)
                merged[part].setdefault(item["name"], values)
    return merged


def _named(config: JSON, part: str, name: str) -> JSON:
    if name not in config[part]:
        known = ", ".join(sorted(config[part])) or "none"
        raise KubeconfigError(f"the kubeconfig has no {part[:-1]} {name!r}; it has: {known}")
    found: JSON = config[part][name]
    return found


def _info(cluster: JSON, user: JSON) -> kopf.ConnectionInfo:
    if "tls-server-name" in cluster:
        raise KubeconfigError("tls-server-name in a kubeconfig is not supported")
    if "auth-provider" in user:
        raise KubeconfigError(
            "auth-provider in a kubeconfig is not supported, nor by kubectl since 1.26: use exec"
        )
    if "exec" in user:
        user = {**user, **_executed(user["exec"], Path(user["folder"]))}
    token = user.get("token")
    if user.get("tokenFile"):
        token = Path(user["tokenFile"]).read_text().strip()

    def one_of(values: JSON, field: str) -> JSON:
        """Data goes before a path, as with kubectl."""
        data = values.get(f"{field}-data")
        return {"data": data} if data else {"path": values.get(field)}

    ca, certificate, key = (
        one_of(cluster, "certificate-authority"),
        one_of(user, "client-certificate"),
        one_of(user, "client-key"),
    )
    return kopf.ConnectionInfo(
        server=cluster.get("server", ""),
        ca_path=ca.get("path"),
        ca_data=ca.get("data"),
        insecure=cluster.get("insecure-skip-tls-verify"),
        certificate_path=certificate.get("path"),
        certificate_data=certificate.get("data"),
        private_key_path=key.get("path"),
        private_key_data=key.get("data"),
        username=user.get("username"),
        password=user.get("password"),
        token=token,
        proxy_url=cluster.get("proxy-url"),
    )


def _executed(plugin: JSON, folder: Path) -> JSON:
    """Credentials from the plugin that clouds bring along, such as `aws eks get-token`.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
    """
    command = str(plugin.get("command", ""))
    if os.sep in command:
        command = str(folder / command)
    interactive = plugin.get("interactiveMode") != "Never" and sys.stdin.isatty()
    question = {
        "apiVersion": plugin.get("apiVersion"),
        "kind": "ExecCredential",
        "spec": {"interactive": interactive},
    }
    more = {str(one["name"]): str(one["value"]) for one in plugin.get("env") or ()}
    try:
        done = subprocess.run(  # noqa: S603 - the person's own kubeconfig names it
            [command, *(str(arg) for arg in plugin.get("args") or ())],
            env={**os.environ, **more, "KUBERNETES_EXEC_INFO": json.dumps(question)},
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=EXEC_TIMEOUT,
            check=True,
        )
        status = json.loads(done.stdout)["status"]
    except (OSError, subprocess.SubprocessError) as error:
        hint = f"; {plugin['installHint']}" if plugin.get("installHint") else ""
        words = f"exit code {error.returncode}" if hasattr(error, "returncode") else f"{error}"
        raise KubeconfigError(f"{command} gave no credentials ({words}){hint}") from None
    except (ValueError, LookupError, TypeError):
        raise KubeconfigError(f"{command} did not answer with an ExecCredential") from None
    return {
        "token": status.get("token"),
        "client-certificate-data": status.get("clientCertificateData"),
        "client-key-data": status.get("clientKeyData"),
    }
