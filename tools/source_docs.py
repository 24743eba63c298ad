"""The strings under members and constants: their documentation, which Python itself throws away."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import pairwise
from types import ModuleType


def of_members(cls: type[Enum]) -> dict[str, str]:
    """What is written under each member of an enum, by the member's value."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    if not isinstance(body, ast.ClassDef):
        raise TypeError(f"{cls.__qualname__} is not declared by a class statement")
    return {str(cls[name].value): text for name, text in _under(body.body)}


def of_constants(module: ModuleType) -> dict[str, str]:
    """What is written under each constant of a module, by the constant's value."""
    tree = ast.parse(inspect.getsource(module))
    return {str(getattr(module, name)): text for name, text in _under(tree.body)}


def _under(statements: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, after in pairwise(statements):
        match statement, after:
            case (ast.Assign(targets=[ast.Name(id=name)]), _) | (
                ast.AnnAssign(target=ast.Name(id=name)),
                _,
            ):
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    yield name, " ".join(str(after.value.value).split())
            case _:
                continue
