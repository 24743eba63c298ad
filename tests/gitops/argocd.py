"""Argo CD's health check as it is shipped, in the Lua that Argo CD gives it."""

from fnmatch import fnmatchcase
from typing import Any

import yaml
from lupa import lua51

from tools.generate import ROOT

CONFIG_MAP = ROOT / "docs/gitops/argocd-cm.yaml"
ABSENT = ("string", "math", "io", "os", "debug", "coroutine", "python", "require", "dofile")
"""What is not there in Argo CD: it opens the base and table libraries alone (and a safe os)."""


def script_for(group: str, kind: str) -> str:
    """The script that the ConfigMap has for a kind."""
    document = yaml.safe_load(CONFIG_MAP.read_text())
    checks = yaml.safe_load(document["data"]["resource.customizations"])
    (found,) = [v for glob, v in checks.items() if fnmatchcase(f"{group}/{kind}", glob)]
    return str(found["health.lua"])


def health(found: dict[str, Any]) -> tuple[str, str]:
    """Status and message that Argo CD shows for an object."""
    group = found["apiVersion"].partition("/")[0]
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    names = lua.globals()
    for name in ABSENT:
        names[name] = None
    names["obj"] = lua.table_from(found, recursive=True)
    answer = dict(lua.execute(script_for(group, found["kind"])))
    if "deletionTimestamp" in found["metadata"] and "deletionMessage" in answer:
        # https://argo-cd.readthedocs.io/en/latest/operator-manual/health/
        answer["message"] = answer["deletionMessage"]
    return answer["status"], answer["message"]
