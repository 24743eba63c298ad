"""Every change of a CRD that breaks somebody is found, and no other."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import yaml
from pydantic import Field

from auterity.api import crd
from auterity.api.fields import IMMUTABLE, ShortText
from auterity.api.kinds import KINDS
from auterity.api.schema import RULES
from auterity.api.vector_index import VectorIndex
from tests.crds.acme import Extras, acme, zenith
from tools import compatibility
from tools.compatibility import accepted, bare, breaks, last, problems

Node = dict[str, Any]
Edit = Callable[[Node], object]
KIND = KINDS["VectorIndex"]
AT = "vectorindexes v1alpha1 spec."


def definition() -> Node:
    """A CRD with something of everything."""
    made = crd.integration(KIND, {"acme": acme(KIND)})
    spec(made)["properties"] |= {
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "maybe": {"type": "string", "nullable": True, "maxLength": 5},
        "open": {"type": "integer"},
        "code": {"type": "string", "pattern": "a+", "maxLength": 5},
        "parted": {"type": "string", "format": "date", "maxLength": 20},
        "step": {"type": "integer", "multipleOf": 2},
    }
    return made


def spec(node: Node) -> Node:
    return node["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def at(node: Node, path: str) -> Node:
    found = spec(node)
    for part in path.split("."):
        found = found["items"] if part == "[]" else found["properties"][part]
    return found


def edited(path: str, **words: Any) -> Edit:
    def edit(node: Node) -> None:
        found = at(node, path) if path else spec(node)
        for word, value in words.items():
            name = word.replace("_", "-")
            if value is None:
                found.pop(name, None)
            else:
                found[name] = value

    return edit


def without(path: str) -> Edit:
    def edit(node: Node) -> None:
        above, _, name = path.rpartition(".")
        del (at(node, above) if above else spec(node))["properties"][name]

    return edit


def crd_edited(act: Edit) -> Edit:
    return lambda node: act(node["spec"])


def version_edited(act: Edit) -> Edit:
    return lambda node: act(node["spec"]["versions"][0])


def renamed(node: Node) -> None:
    found = at(node, "acme")["properties"]
    found["levels"] = found.pop("tier")


def ruled(path: str, rule: str, **more: Any) -> Edit:
    def edit(node: Node) -> None:
        found = at(node, path) if path else spec(node)
        rules = found.setdefault("x-kubernetes-validations", [])
        rules.append({"rule": rule, "message": "no", **more})

    return edit


FORBIDDEN = [
    ("a removed field", without("acme.tier"), AT + "acme.tier: is gone"),
    ("a renamed field", renamed, AT + "acme.tier: is gone"),
    ("a vendor removed", without("acme"), AT + "acme: is gone"),
    (
        "another type",
        edited("dimension", type="string"),
        AT + "dimension: type was integer, is string",
    ),
    (
        "another format",
        edited("parted", format="date-time"),
        AT + "parted: format was date, is date-time",
    ),
    ("a new format", edited("open", format="int32"), AT + "open: format was nothing, is int32"),
    ("a field now required", edited("", required=["metric2"]), AT + "metric2: is now required"),
    (
        "an optional field now required",
        edited("acme", required=["tier"]),
        AT + "acme.tier: is now required",
    ),
    ("a higher minimum", edited("dimension", minimum=2), AT + "dimension: minimum was 1, is 2"),
    (
        "a lower maximum",
        edited("dimension", maximum=9),
        AT + "dimension: maximum was 65536, is 9",
    ),
    ("a new minimum", edited("open", minimum=0), AT + "open: minimum was nothing, is 0"),
    ("a new maximum", edited("open", maximum=9), AT + "open: maximum was nothing, is 9"),
    (
        "a greater minLength",
        edited("acme.tier", minLength=2),
        AT + "acme.tier: minLength was 1, is 2",
    ),
    (
        "a smaller maxLength",
        edited("acme.tier", maxLength=9),
        AT + "acme.tier: maxLength was 63, is 9",
    ),
    (
        "more items needed",
        edited("acme.peers", minItems=1),
        AT + "acme.peers: minItems was nothing, is 1",
    ),
    ("fewer items", edited("acme.peers", maxItems=2), AT + "acme.peers: maxItems was 3, is 2"),
    (
        "fewer entries",
        edited("acme.tags", maxProperties=9),
        AT + "acme.tags: maxProperties was 50, is 9",
    ),
    ("another step", edited("step", multipleOf=3), AT + "step: multipleOf was 2, is 3"),
    ("a value removed", edited("metric", enum=["cosine"]), AT + "metric: the value euclidean"),
    ("a new enum", edited("code", enum=["a"]), AT + "code: enum was nothing, is ['a']"),
    ("another pattern", edited("code", pattern="a"), AT + "code: pattern was a+, is a"),
    ("a new pattern", edited("maybe", pattern="b"), AT + "maybe: pattern was nothing, is b"),
    ("null taken no more", edited("maybe", nullable=False), AT + "maybe: null is no longer taken"),
    (
        "another default",
        edited("metric", default="euclidean"),
        AT + "metric: default was cosine, is euclidean",
    ),
    ("no default", edited("metric", default=None), AT + "metric: default was cosine, is nothing"),
    ("a new default", edited("open", default=1), AT + "open: default was nothing, is 1"),
    (
        "unknown fields pruned",
        edited("free", **{"x-kubernetes-preserve-unknown-fields": None}),
        AT + "free: unknown fields are no longer kept",
    ),
    (
        "a list that becomes a set",
        edited("createOnly", **{"x-kubernetes-list-type": "set"}),
        AT + "createOnly: x-kubernetes-list-type was nothing, is set",
    ),
    (
        "a keyed list that becomes a plain one",
        edited("acme.shards", **{"x-kubernetes-list-type": None}),
        AT + "acme.shards: x-kubernetes-list-type was map, is nothing",
    ),
    (
        "another key",
        edited("acme.shards", **{"x-kubernetes-list-map-keys": ["zone"]}),
        AT + "acme.shards: x-kubernetes-list-map-keys was ['name'], is ['zone']",
    ),
    (
        "a field of items removed",
        lambda node: at(node, "acme.shards.[]")["properties"].pop("zone"),
        AT + "acme.shards[].zone: is gone",
    ),
    (
        "a map that is one no more",
        edited("acme.tags", additionalProperties=None),
        AT + "acme.tags.*: is gone",
    ),
    (
        "smaller values of a map",
        lambda node: at(node, "acme.tags")["additionalProperties"].update(maxLength=1),
        AT + "acme.tags.*: maxLength was 256, is 1",
    ),
    (
        "a new rule",
        ruled("acme", "self.region != 'us'"),
        AT + "acme: new rule: self.region != 'us' (no)",
    ),
    (
        "a field that can no longer change",
        ruled("", "!has(oldSelf.open) || self.open == oldSelf.open"),
        "vectorindexes v1alpha1 spec: new rule: !has(oldSelf.open) || self.open == oldSelf.open",
    ),
    (
        "a rule with one condition more",
        lambda node: spec(node)["x-kubernetes-validations"][0].update(
            rule=spec(node)["x-kubernetes-validations"][0]["rule"] + " && self.dimension > 1"
        ),
        "new rule: ",
    ),
    (
        "a status field removed",
        version_edited(
            lambda v: v["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"].pop("id")
        ),
        "vectorindexes v1alpha1 status.id: is gone",
    ),
    (
        "a column removed",
        version_edited(lambda v: v["additionalPrinterColumns"].pop(0)),
        "vectorindexes v1alpha1 column Ready: is gone",
    ),
    (
        "a column that shows something else",
        version_edited(lambda v: v["additionalPrinterColumns"][3].update(jsonPath=".status.url")),
        "vectorindexes v1alpha1 column Id: jsonPath was .status.id, is .status.url",
    ),
    (
        "a version served no more",
        version_edited(lambda v: v.update(served=False)),
        "vectorindexes v1alpha1: is no longer served",
    ),
    (
        "a version renamed",
        version_edited(lambda v: v.update(name="v1")),
        "vectorindexes v1alpha1: is no longer served",
    ),
    (
        "no status subresource",
        version_edited(lambda v: v.pop("subresources")),
        "vectorindexes v1alpha1 subresource status: is gone",
    ),
    (
        "a short name removed",
        crd_edited(lambda s: s["names"].update(shortNames=[])),
        "vectorindexes names.shortNames: vidx is gone",
    ),
    (
        "a category removed",
        crd_edited(lambda s: s["names"].update(categories=[])),
        "vectorindexes names.categories: integrations is gone",
    ),
    (
        "another kind",
        crd_edited(lambda s: s["names"].update(kind="Index")),
        "vectorindexes names.kind: was VectorIndex, is Index",
    ),
    (
        "another scope",
        crd_edited(lambda s: s.update(scope="Cluster")),
        "vectorindexes scope: was Namespaced, is Cluster",
    ),
]


@pytest.mark.parametrize(
    ("change", "words"), [case[1:] for case in FORBIDDEN], ids=[case[0] for case in FORBIDDEN]
)
def test_what_breaks_somebody_is_found(change: Edit, words: str) -> None:
    old = definition()
    new = copy.deepcopy(old)
    change(new)
    found = breaks([old], [new])
    assert found
    assert any(words in text for text in found), found


def test_a_crd_that_is_gone_is_found() -> None:
    assert breaks([definition()], []) == ["vectorindexes: the CRD is gone"]


def added(name: str, **words: Any) -> Edit:
    return lambda node: spec(node)["properties"].update({name: {"type": "string", **words}})


def needed_with_a_default(node: Node) -> None:
    spec(node)["properties"]["more"] = {"type": "string", "default": "a", "maxLength": 9}
    spec(node)["required"] = [*spec(node)["required"], "more"]


def another_version(node: Node) -> None:
    version = copy.deepcopy(node["spec"]["versions"][0])
    node["spec"]["versions"][0]["storage"] = False
    node["spec"]["versions"].append({**version, "name": "v1"})


def a_column_more(version: Node) -> None:
    version["additionalPrinterColumns"].append({"name": "X", "type": "string", "jsonPath": ".x"})


ALLOWED = [
    ("nothing", lambda _: None),
    ("a new field", added("more", maxLength=9, pattern="a")),
    ("a new field with a default that is required", needed_with_a_default),
    ("a wider bound", edited("dimension", minimum=0, maximum=10**6)),
    ("no bound", edited("dimension", minimum=None, maximum=None)),
    ("one value more", edited("metric", enum=["cosine", "euclidean", "dotProduct", "hamming"])),
    ("no pattern", edited("code", pattern=None)),
    ("no step", edited("step", multipleOf=None)),
    ("a field that is required no more", edited("", required=["connectionRef"])),
    ("a rule removed", edited("", **{"x-kubernetes-validations": None})),
    (
        "a rule that spares what is there",
        ruled("acme", "self.x || oldSelf.x", optionalOldSelf=True),
    ),
    (
        "a rule with other words",
        lambda n: spec(n)["x-kubernetes-validations"][0].update(message=""),
    ),
    ("unknown fields kept", edited("acme", **{"x-kubernetes-preserve-unknown-fields": True})),
    ("another description", edited("metric", description="Else.")),
    ("one version more", another_version),
    ("a column more", version_edited(a_column_more)),
    ("a short name more", crd_edited(lambda s: s["names"]["shortNames"].append("v"))),
]


@pytest.mark.parametrize("change", [case[1] for case in ALLOWED], ids=[case[0] for case in ALLOWED])
def test_what_breaks_nobody_is_let_through(change: Edit) -> None:
    old = definition()
    new = copy.deepcopy(old)
    change(new)
    assert breaks([old], [new]) == []


COUNTED = "[has(self.a), has(self.b)].filter(x, x).size()"
MORE = "[has(self.a), has(self.c), has(self.b)].filter(x, x).size()"


MANY: Node = {
    "properties": {"a": {}, "b": {}, "c": {}},
    RULES: [{"rule": f"{MORE} <= 1"}],
}


class Wider(Extras):
    """Acme with one way more, and with more that cannot change."""

    one_of: ClassVar[tuple[str, ...]] = ("tier", "pods", "byoc")

    byoc: Annotated[ShortText | None, IMMUTABLE] = None
    """Your own account. Cannot change."""
    size: Annotated[int, Field(ge=1, le=9), IMMUTABLE] = 1
    """Size. Cannot change."""


class WiderIndex(Wider, VectorIndex):
    """What only Acme has."""


def test_a_new_vendor_and_new_choices_change_rules_and_break_nobody() -> None:
    """Rules that count or list fields name the new ones, which no older object has."""
    old = crd.integration(KIND, {"acme": acme(KIND)})
    # Some stand before the old ones, some behind.
    more = dict.fromkeys(("aaa", "aab", "aac", "zenith"), zenith(KIND))
    new = crd.integration(KIND, {"acme": WiderIndex, **more})
    assert breaks([old], [new]) == []
    gone = {AT + "acme.byoc: is gone", AT + "acme.size: is gone", AT + "zenith: is gone"}
    assert gone <= {*breaks([new], [old])}


def test_a_choice_that_may_be_left_out_breaks_nobody() -> None:
    old = {"properties": {}, RULES: [{"rule": f"{COUNTED} == 1"}]}
    new = {"properties": {"c": {}}, RULES: [{"rule": f"{MORE} <= 1"}]}
    assert list(compatibility._ruled(old, new)) == []
    assert len(list(compatibility._ruled(new, old))) == 1
    assert list(compatibility._ruled({"properties": {"a": {}}}, MANY)) == []


def test_a_choice_of_fewer_is_found() -> None:
    class Narrower(Wider):
        """Acme, where one way is none any more."""

        one_of: ClassVar[tuple[str, ...]] = ("tier", "byoc")

    narrower: Any = type("NarrowerIndex", (Narrower, VectorIndex), {"__doc__": "Acme's."})
    old, new = (crd.integration(KIND, {"acme": params}) for params in (WiderIndex, narrower))
    (told,) = breaks([old], [new])
    assert told.startswith(AT + "acme: new rule: [has(self.tier), has(self.byoc)]")


def test_descriptions_bind_nobody_and_are_not_kept() -> None:
    kept = bare(definition())
    assert "description" not in yaml.safe_dump(kept)
    assert breaks([kept], [definition()]) == []
    # A field of that name is no description.
    node = {"properties": {"description": {"type": "string", "description": "x"}}}
    assert bare(node) == {"properties": {"description": {"type": "string"}}}


def test_a_break_can_be_meant_with_a_reason_and_not_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "accepted.yaml"
    assert accepted(tmp_path) == {}
    change = "vectorindexes v1alpha1 spec.acme: is gone"
    file.write_text(yaml.safe_dump([{"change": change, "reason": "Acme has closed"}]))
    meant = accepted(tmp_path)
    assert problems([change], meant) == []
    assert problems([change, "other"], meant) == ["other"]
    (told,) = problems([], meant)
    assert told.endswith(change)
    file.write_text(yaml.safe_dump([{"change": change, "reason": " "}]))
    with pytest.raises(ValueError, match="without a reason"):
        accepted(tmp_path)


def test_the_newest_release_counts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        last(tmp_path)
    for version in ("0.9.0", "0.10.0", "0.2.0"):
        (tmp_path / f"{version}.yaml").write_text(yaml.safe_dump({"it": version}))
    (tmp_path / "accepted.yaml").write_text("[]")
    assert last(tmp_path) == ("0.10.0", [{"it": "0.10.0"}])


def test_a_release_keeps_what_is_there_and_forgets_what_was_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compatibility, "RELEASED", tmp_path)
    (tmp_path / "0.0.1.yaml").write_text("{}")
    (tmp_path / "accepted.yaml").write_text("[{change: a, reason: b}]")
    compatibility.release("0.3.0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.3.0.yaml", "accepted.yaml"]
    version, kept = last(tmp_path)
    assert (version, accepted(tmp_path)) == ("0.3.0", {})
    assert breaks(kept, compatibility.present()) == []
    with pytest.raises(SystemExit, match="not like"):
        compatibility.release("next")
