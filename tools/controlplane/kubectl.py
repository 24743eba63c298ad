"""kubectl, bound to one cluster."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


class KubectlError(Exception):
    """kubectl failed; the text is what it said."""


@dataclass(frozen=True)
class Kubectl:
    """Call it with kubectl's arguments; it returns what kubectl prints."""

    program: Path
    kubeconfig: Path

    def __call__(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002 - as subprocess calls it
        timeout: float = 60,
    ) -> str:
        done = subprocess.run(
            [str(self.program), f"--kubeconfig={self.kubeconfig}", *args],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout
