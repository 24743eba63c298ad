"""`python -m tools.compatibility`: whether the CRDs take what those of the last release took.

What was released stands in tools/released/<version>.yaml; breaks that are meant, each with its
reason, in tools/released/accepted.yaml. See docs/decisions.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import cyclopts
import yaml

from auterity.api.schema import FREE_FORM, LIST_TYPE, MAP_KEYS, RULES, Node, escaped
from tools.generate import ROOT

COMMAND: Final = "python -m tools.compatibility"
RELEASED: Final = ROOT / "tools" / "released"
ACCEPTED: Final = "accepted.yaml"
_LOWER: Final = ("minimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "maxLength", "maxItems", "maxProperties")
_EXACT: Final = ("type", "format", "pattern", "multipleOf", LIST_TYPE, MAP_KEYS, "default")
_NEVER: Final = re.compile(
    r"!false|!false \|\| .*|.* \|\| !false|false == false"
    r"|\[(has\([^\]),]*\))?\]\.filter\(x, x\)\.size\(\) <= 1"
)
"""A condition that nothing without the new fields can break."""

app = cyclopts.App(name=COMMAND, help="Hold the CRDs against those of the last release.")


def breaks(old: Iterable[Node], new: Iterable[Node]) -> list[str]:
    """What works with the old CRDs and not with the new ones: `<crd> <version> <path>: <what>`."""
    there = {crd["metadata"]["name"]: crd for crd in new}
    found: list[str] = []
    for crd in old:
        name = crd["metadata"]["name"]
        plural = name.partition(".")[0]
        if name not in there:
            found.append(f"{plural}: the CRD is gone")
            continue
        found += (f"{plural} {text}" for text in _of_crd(crd["spec"], there[name]["spec"]))
    return found


def _of_crd(old: Node, new: Node) -> Iterator[str]:
    for field in ("group", "scope"):
        if old[field] != new[field]:
            yield f"{field}: was {old[field]}, is {new[field]}"
    for field in ("kind", "listKind", "plural", "singular"):
        was, now = old["names"].get(field), new["names"].get(field)
        if was != now:
            yield f"names.{field}: was {was}, is {now}"
    for field in ("shortNames", "categories"):
        for gone in sorted(set(old["names"].get(field, ())) - set(new["names"].get(field, ()))):
            yield f"names.{field}: {gone} is gone"
    there = {version["name"]: version for version in new["versions"]}
    for version in old["versions"]:
        name = version["name"]
        if not version["served"]:
            continue
        if name not in there or not there[name]["served"]:
            yield f"{name}: is no longer served"
            continue
        yield from (f"{name} {text}" for text in _of_version(version, there[name]))


def _of_version(old: Node, new: Node) -> Iterator[str]:
    for gone in sorted(old.get("subresources", {}).keys() - new.get("subresources", {}).keys()):
        yield f"subresource {gone}: is gone"
    columns = {column["name"]: column for column in new.get("additionalPrinterColumns", ())}
    for column in old.get("additionalPrinterColumns", ()):
        name = column["name"]
        if name not in columns:
            yield f"column {name}: is gone"
            continue
        for field in ("type", "jsonPath"):
            if column[field] != columns[name][field]:
                yield f"column {name}: {field} was {column[field]}, is {columns[name][field]}"
    schema = "schema", "openAPIV3Schema"
    yield from _of_schema(old[schema[0]][schema[1]], new[schema[0]][schema[1]], "")


def _of_schema(old: Node, new: Node, path: str) -> Iterator[str]:
    here = path or "the object"
    yield from (f"{here}: {text}" for text in _tightened(old, new))
    yield from (f"{here}: {text}" for text in _ruled(old, new))
    had, has = old.get("properties", {}), new.get("properties", {})
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        # The API server fills a default in before it looks.
        if "default" not in has.get(name, {}):
            yield f"{_below(path, name)}: is now required"
    for name, node in sorted(had.items()):
        if name not in has:
            if not new.get(FREE_FORM):
                yield f"{_below(path, name)}: is gone"
            continue
        yield from _of_schema(node, has[name], _below(path, name))
    for word, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(old.get(word), dict):
            if isinstance(new.get(word), dict):
                yield from _of_schema(old[word], new[word], f"{path}{mark}")
            elif not new.get(FREE_FORM):
                yield f"{path}{mark}: is gone"


def _tightened(old: Node, new: Node) -> Iterator[str]:
    for word in _EXACT:
        was, now = old.get(word), new.get(word)
        if was == now or (now is None and word in ("pattern", "multipleOf", "format")):
            continue
        if word == LIST_TYPE and (was or "atomic") == (now or "atomic"):
            continue
        yield f"{word} was {_shown(was)}, is {_shown(now)}"
    for words, sign in ((_LOWER, 1), (_UPPER, -1)):
        for word in words:
            was, now = old.get(word), new.get(word)
            if now is not None and (was is None or (now - was) * sign > 0):
                yield f"{word} was {_shown(was)}, is {_shown(now)}"
    yield from _taken_less(old, new)


def _taken_less(old: Node, new: Node) -> Iterator[str]:
    if "enum" in new:
        if "enum" not in old:
            yield f"enum was {_shown(None)}, is {_shown(new['enum'])}"
        for gone in [value for value in old.get("enum", ()) if value not in new["enum"]]:
            yield f"the value {_shown(gone)} is gone"
    if old.get(FREE_FORM) and not new.get(FREE_FORM):
        yield "unknown fields are no longer kept"
    if old.get("nullable") and not new.get("nullable"):
        yield "null is no longer taken"


def _ruled(old: Node, new: Node) -> Iterator[str]:
    """Rules that an object without new fields can break and could not break before."""
    fresh = new.get("properties", {}).keys() - old.get("properties", {}).keys()
    known = {part for rule in old.get(RULES, ()) for part in _parts(rule["rule"])}
    # Exactly one is at most one too.
    known |= {re.sub(r"== 1$", "<= 1", part) for part in known}
    for rule in new.get(RULES, ()):
        # Such a rule is given the old value even if it is invalid, to let it stay as it is.
        if rule.get("optionalOldSelf"):
            continue
        if any(part not in known for part in _asked(rule["rule"], fresh)):
            yield f"new rule: {rule['rule']} ({rule.get('message', 'no message')})"


def _asked(rule: str, fields: Iterable[str]) -> list[str]:
    """The conditions that a rule makes for an object that has none of these fields."""
    for name in fields:
        rule = re.sub(rf"has\((self|oldSelf)\.{re.escape(escaped(name))}\)", "false", rule)
    # Counted fields: what is never there does not count.
    rule = re.sub(r"\bfalse, |, false(?=[,\]])", "", rule)
    return [part for part in _parts(rule) if not _NEVER.fullmatch(part)]


def _parts(rule: str) -> list[str]:
    """A rule's conditions, all of which must hold."""
    found, depth, start = [], 0, 0
    for at, char in enumerate(rule):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0 and rule.startswith(" && ", at):
            found.append(rule[start:at])
            start = at + len(" && ")
    found.append(rule[start:])
    if len(found) > 1 and any(" || " in _outside(part) for part in found):
        return [rule]
    return [_bare(part) for part in found if part]


def _outside(part: str) -> str:
    """Without what stands in parentheses."""
    while (less := re.sub(r"\([^()]*\)", "", part)) != part:
        part = less
    return part


def _bare(part: str) -> str:
    """Without parentheses around all of it."""
    if part.startswith("(") and part.endswith(")"):
        depth = 0
        for at, char in enumerate(part):
            depth += (char == "(") - (char == ")")
            if depth == 0:
                return part[1:-1] if at == len(part) - 1 else part
    return part


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def bare(node: Any) -> Any:
    """A CRD without its descriptions: they bind nobody."""
    if isinstance(node, list):
        return [bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: bare(value) for name, value in item.items()}
        if key == "properties"
        else bare(item)
        for key, item in node.items()
        if key != "description"
    }


def present(root: Path = ROOT) -> list[Node]:
    """The CRDs of this checkout."""
    return [yaml.safe_load(path.read_text()) for path in sorted((root / "crds").glob("*.yaml"))]


def last(folder: Path = RELEASED) -> tuple[str, list[Node]]:
    """The last release's version and CRDs. Raises FileNotFoundError if there is none."""
    found = [path for path in folder.glob("*.yaml") if path.name != ACCEPTED]
    if not found:
        raise FileNotFoundError(f"no release in {folder}")
    newest = max(found, key=lambda path: [int(part) for part in path.stem.split(".")])
    return newest.stem, list(yaml.safe_load_all(newest.read_text()))


def accepted(folder: Path = RELEASED) -> dict[str, str]:
    """Breaks that are meant and their reasons. Raises ValueError for one without."""
    file = folder / ACCEPTED
    entries = yaml.safe_load(file.read_text()) if file.exists() else None
    found: dict[str, str] = {}
    for entry in entries or ():
        if not str(entry.get("reason") or "").strip():
            raise ValueError(f"{ACCEPTED}: {entry.get('change')} is accepted without a reason")
        found[entry["change"]] = entry["reason"]
    return found


def problems(found: Iterable[str], meant: Mapping[str, str]) -> list[str]:
    """Breaks that are not meant, and breaks that are meant and not there."""
    there = list(found)
    return [
        *(text for text in there if text not in meant),
        *(f"{ACCEPTED} lists what is no break (any more): {t}" for t in meant if t not in there),
    ]


@app.default
def check() -> None:
    """Fail if a CRD no longer takes what that of the last release took."""
    version, released = last()
    told = problems(breaks(released, present()), accepted())
    if told:
        sys.exit(
            "\n".join(told) + f"\nThese break what worked with {version}. Keep the old field, or "
            f"list the line with its reason in {(RELEASED / ACCEPTED).relative_to(ROOT)}."
        )


@app.command
def release(version: str) -> None:
    """Keep this checkout's CRDs as those of a release; what was accepted before is done with.

    Parameters
    ----------
    version
        Such as 0.2.0.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        sys.exit(f"{version} is not like 0.2.0")
    RELEASED.mkdir(exist_ok=True)
    for path in RELEASED.glob("*.yaml"):
        if path.name != ACCEPTED:
            path.unlink()
    text = yaml.safe_dump_all(bare(present()), sort_keys=True, width=100)
    head = f"# The CRDs of {version} without descriptions, by `{COMMAND} release {version}`.\n"
    (RELEASED / f"{version}.yaml").write_text(head + text)
    note = "# Breaks since the last release that are meant: a list of {change: ..., reason: ...}.\n"
    (RELEASED / ACCEPTED).write_text(f"{note}[]\n")


if __name__ == "__main__":
    app()
