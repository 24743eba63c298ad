"""`auterity run`: the operator itself."""

import re
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from auterity.api.kinds import KINDS, LOCAL
from auterity.cli.output import Problem


def run(  # noqa: PLR0913 - the command's options
    *,
    namespace: Annotated[list[str] | None, Parameter(negative=())] = None,
    without_kind: Annotated[list[str] | None, Parameter(negative=())] = None,
    allow_insecure_endpoints: Annotated[bool, Parameter(negative=())] = False,
    lend_identity: Annotated[bool, Parameter(negative=())] = False,
    cluster_name: str | None = None,
    replica_name: str | None = None,
    lease_namespace: str | None = None,
    admission: str | None = None,
    admission_listen: str = "0.0.0.0:9443",
    prices: Annotated[list[Path] | None, Parameter(negative=())] = None,
    workers: int = 400,
    listen: str = "0.0.0.0:8080",
    log_format: Literal["json", "console"] = "console",
    log_level: Literal["debug", "info", "warning", "error"] = "info",
) -> None:
    """Run the operator, with KUBECONFIG or in a cluster.

    Parameters
    ----------
    namespace
        Serve only this namespace; repeat for several. All namespaces if left out.
    without_kind
        Leave this kind of integration alone, such as VectorIndex; repeat for several.
    allow_insecure_endpoints
        Allow connections whose endpoint is http, not https.
    lend_identity
        Let every Connection without credentials use the operator's own identity, such as its IAM
        role. ClusterConnections always may.
    cluster_name
        Tells this cluster from others in marks at vendors; from kube-system's uid if left out.
    replica_name
        Tells this replica from the others; host name and a random part if left out. A replica that
        comes back under its name takes up its objects at once, so two must never share one.
    lease_namespace
        Where the replicas keep their Leases; the pod's namespace, else default.
    admission
        Check what users write before it is stored: the ValidatingWebhookConfiguration to serve.
    admission_listen
        Address and port of the admission webhook.
    prices
        File with price lists that are put over those that come along, for the estimates in status
        and for budgets; repeat for several, of which the last wins.
    workers
        Most visits in hand at the same time.
    listen
        Address and port of /healthz, /readyz and /metrics.
    log_format
        json for machines, console for people.
    log_level
        Least severity that is logged.
    """
    from auterity.cli.files import price_lists
    from auterity.providers import catalogue
    from auterity.runtime import app as runtime
    from auterity.runtime.logs import configure
    from auterity.runtime.operator import Options

    configure(log_format, log_level)
    host, _, port = listen.rpartition(":")
    options = Options(
        namespaces=tuple(namespace or ()),
        without=_kinds(without_kind or ()),
        cluster_name=cluster_name,
        allow_insecure=allow_insecure_endpoints,
        lend_identity=lend_identity,
        replica=replica_name or _replica_name(),
        lease_namespace=lease_namespace or _own_namespace(),
        admission=admission,
        admission_listen=admission_listen,
        prices=price_lists(prices or ()),
        workers=workers,
    )
    runtime.run(catalogue(), options, host=host or "0.0.0.0", port=int(port))  # noqa: S104 - as above


def _kinds(names: Iterable[str]) -> frozenset[str]:
    known = {*KINDS, *LOCAL}
    if unknown := set(names) - known:
        told = f"no kind of integration is called {', '.join(sorted(unknown))}"
        raise Problem(f"--without-kind: {told}; there are {', '.join(sorted(known))}")
    return frozenset(names)


def _replica_name() -> str:
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")
    return f"{host[:50] or 'replica'}-{secrets.token_hex(4)}"


def _own_namespace() -> str:
    file = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return file.read_text().strip() if file.exists() else "default"
