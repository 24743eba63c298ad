"""Where it runs: Kopf and the Kubernetes API."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _unseen(*packages: str) -> Iterator[None]:
    """As if these packages were not installed, unless they are loaded already."""
    hidden = [name for name in packages if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to refuse an import
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


# Kopf loads a Kubernetes client if it finds one, only to log in by it: 60 MB that nothing uses.
with _unseen("kubernetes", "kubernetes_asyncio", "pykube"):
    import kopf as kopf
