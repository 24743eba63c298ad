"""`auterity crds`: the CustomResourceDefinitions of this version."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from auterity.cli.output import Problem, as_json, as_yaml, write


def crds(
    *kinds: str,
    directory: Annotated[Path | None, Parameter(name=["--directory", "-d"])] = None,
    output: Annotated[Literal["yaml", "json"], Parameter(name=["--output", "-o"])] = "yaml",
) -> None:
    """Print or write the CustomResourceDefinitions of this version.

    To install them: `auterity crds | kubectl apply --server-side -f -`.

    Parameters
    ----------
    kinds
        Only these kinds, such as VectorIndex; all if left out.
    directory
        Write one file a kind into this folder instead.
    output
        How they are written.
    """
    from auterity.cli import schema

    made = {crd["spec"]["names"]["kind"]: crd for crd in schema.crds()}
    by_name = {kind.lower(): kind for kind in made}
    if unknown := [kind for kind in kinds if kind.lower() not in by_name]:
        raise Problem(f"there is no kind {unknown[0]!r}; there are: {', '.join(made)}")
    chosen = [made[by_name[kind.lower()]] for kind in kinds] or list(made.values())
    if directory is None:
        if output == "json":
            write(as_json({"apiVersion": "v1", "kind": "List", "items": chosen}))
        else:
            write(as_yaml(*chosen))
        return
    directory.mkdir(parents=True, exist_ok=True)
    for crd in chosen:
        path = directory / f"{crd['spec']['names']['plural']}.{output}"
        text = as_json(crd) if output == "json" else as_yaml(crd)
        path.write_text(f"{text}\n")
        write(f"wrote {path}")
