"""Which Kubernetes API to use on this machine."""

import os
import shutil
import subprocess
from enum import StrEnum


class Source(StrEnum):
    """Where a Kubernetes API comes from."""

    EXTERNAL = "external"
    """The one that `$KUBECONFIG` names."""
    KIND = "kind"
    """A new kind cluster in containers."""
    EMBEDDED = "embedded"
    """Built and started here, without containers."""


def choose() -> Source:
    """Prefer the cluster that was named, then containers, then what works everywhere."""
    if os.environ.get("KUBECONFIG"):
        return Source.EXTERNAL
    if shutil.which("kind") and _docker_answers():
        return Source.KIND
    return Source.EMBEDDED


def _docker_answers() -> bool:
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
