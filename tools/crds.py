"""CRDs of other projects on a control plane of this machine."""

import time
from collections.abc import Iterable
from pathlib import Path

from tools.controlplane import Kubectl, KubectlError

SECONDS_TO_ESTABLISH = 30


def install(kubectl: Kubectl, paths: Iterable[Path]) -> None:
    """Apply files, or folders of them, and return once their kinds are served."""
    given = [f"--filename={path}" for path in paths]
    kubectl("apply", "--server-side", *given)
    deadline = time.monotonic() + SECONDS_TO_ESTABLISH
    while True:
        try:
            kubectl("wait", "--for=condition=Established", *given)
        except KubectlError:
            # Of a CRD that has no conditions yet, kubectl makes an error instead of waiting.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return
