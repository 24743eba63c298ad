"""The operator over an API server in memory: no edit is missed, whenever it comes."""

import asyncio
import base64
import copy
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import date
from typing import Any

import pytest

from auterity.api.kinds import PLURALS
from auterity.engine.prices import PriceList
from auterity.engine.subject import Key
from auterity.runtime.kube import KubeError
from auterity.runtime.metrics import Metrics
from auterity.runtime.operator import Operator, Options
from tests.unit.engine.fleet import FleetDeployment
from tests.unit.engine.shelf import TOKEN, Shelf, ShelfIndex, World
from tests.unit.engine.test_cost import Models, ShelfModel

DOCS = Key("VectorIndex", "team", "docs")
KINDS = {plural: kind for kind, plural in PLURALS.items()}


class Api:
    """Objects by path, with versions, generations and finalizers, and the events that follow."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.versions = itertools.count(1)
        self.uids = itertools.count(1)
        self.tell: Callable[..., None] = lambda *_, **__: None
        self.happening: dict[str, Callable[[], None]] = {}
        """Runs once, before a call of that method is answered; what it does is told at once."""
        self.before: dict[str, Callable[[], None]] = {}
        """Runs once, before a call of that method has its effect."""
        self.late: list[tuple[dict[str, Any], bool]] | None = None
        self.forbidden: dict[str, int] = {}
        """How often a list of these is still refused, by plural."""

    def apply(self, path: str, spec: dict[str, Any]) -> None:
        old = self.objects.get(path)
        if old is None:
            *_, namespace, plural, name = path.split("/")
            meta = {
                "name": name,
                "namespace": namespace,
                "uid": f"uid-{next(self.uids)}",
                "generation": 1,
                "creationTimestamp": "2026-01-01T00:00:00Z",
            }
            old = {"kind": KINDS.get(plural, "Secret"), "metadata": meta, "status": {}}
        elif old["spec"] != spec:
            old["metadata"]["generation"] += 1
        self.keep(path, {**old, "spec": spec})

    def keep(self, path: str, raw: dict[str, Any]) -> dict[str, Any]:
        raw["metadata"]["resourceVersion"] = str(next(self.versions))
        self.objects[path] = raw
        self.told(raw, deleted=False)
        return copy.deepcopy(raw)

    def told(self, raw: dict[str, Any], *, deleted: bool) -> None:
        if self.late is None:
            self.tell(copy.deepcopy(raw), deleted=deleted)
        else:
            self.late.append((copy.deepcopy(raw), deleted))

    def catch_up(self) -> None:
        late, self.late = self.late or [], None
        for raw, deleted in late:
            self.tell(raw, deleted=deleted)

    def delete(self, path: str) -> None:
        raw = self.objects[path]
        if raw["metadata"].get("finalizers"):
            raw["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
            self.keep(path, raw)
        else:
            self.told(self.objects.pop(path), deleted=True)

    async def list(self, path: str, **_: str) -> AsyncIterator[dict[str, Any]]:
        plural = path.rpartition("/")[2]
        if self.forbidden.get(plural, 0):
            self.forbidden[plural] -= 1
            raise KubeError(403, f"{plural} is forbidden")
        for at, raw in list(self.objects.items()):
            if at.split("/")[-2] == plural:
                yield copy.deepcopy(raw)

    async def find(self, path: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.objects.get(path))

    async def call(self, method: str, path: str, body: Any = None, **_: Any) -> dict[str, Any]:
        part = path.removesuffix("/status")
        if (happening := self.before.pop(method, None)) is not None and "leases" not in path:
            happening()
        match method:
            case "GET":
                found = [raw for at, raw in self.objects.items() if at.rpartition("/")[0] == path]
                return {"items": copy.deepcopy(found)}
            case "POST":
                name = body["metadata"].get("name", "event")
                body["metadata"].setdefault("uid", f"uid-{next(self.uids)}")
                self.objects[f"{path}/{name}"] = body
                return dict(body)
            case "PATCH" if part in self.objects:
                return self._patch(part, body)
            case "DELETE" if path in self.objects:
                return self.objects.pop(path)
        raise KubeError(404, "not found")

    def _patch(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        old = self.objects[path]
        if patch["metadata"].get("uid", old["metadata"].get("uid")) != old["metadata"].get("uid"):
            raise KubeError(409, "uid is another")
        raw = _merged(old, patch)
        if "leases" in path:
            self.objects[path] = raw
            return raw
        answer = self.keep(path, raw)
        if not raw["metadata"].get("finalizers") and raw["metadata"].get("deletionTimestamp"):
            self.told(self.objects.pop(path), deleted=True)
        if (happening := self.happening.pop("PATCH", None)) is not None:
            happening()
        return answer


def _merged(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(old)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


ROOT = "/apis/integrations.auterity.io/v1alpha1/namespaces/team"
AT = f"{ROOT}/vectorindexes/docs"


def spec(replicas: int = 1) -> dict[str, Any]:
    return {
        "connectionRef": {"name": "account"},
        "deletionPolicy": "Delete",
        "dimension": 8,
        "shelf": {"replicas": replicas},
    }


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    found = Shelf()
    yield found
    await found.stop()


@pytest.fixture
def world(shelf: Shelf) -> World:
    return shelf.world


@pytest.fixture
async def api(shelf: Shelf) -> Api:
    found = Api()
    found.objects["/api/v1/namespaces/team/secrets/shelf"] = {
        "metadata": {"name": "shelf", "uid": "uid-secret", "resourceVersion": "1"},
        "data": {"token": _coded(TOKEN)},
    }
    found.apply(f"{ROOT}/connections/account", {"shelf": shelf.connection(None)})
    return found


def _coded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


@pytest.fixture
async def operator(api: Api) -> AsyncIterator[Operator]:
    providers = {("VectorIndex", "shelf"): ShelfIndex}
    found = Operator(api, providers, Metrics(), Options())  # type: ignore[arg-type]  # in memory
    api.tell = found.observe
    await found.start("testcluster")
    yield found
    await found.stop()


async def rest(operator: Operator) -> None:
    async with asyncio.timeout(10):
        while not operator.schedule.idle:  # noqa: ASYNC110 - nothing tells when it is
            await asyncio.sleep(0)


def ready(api: Api) -> tuple[int, str]:
    raw = api.objects[AT]
    condition = next(c for c in raw["status"]["conditions"] if c["type"] == "Ready")
    return raw["status"]["observedGeneration"], condition["status"]


async def test_an_object_is_made_and_deleted(operator: Operator, api: Api, world: World):
    api.apply(AT, spec())
    await rest(operator)
    assert ready(api) == (1, "True")
    assert set(world.things) == {"docs"}
    api.delete(AT)
    await rest(operator)
    assert AT not in api.objects
    assert not world.things
    assert operator.store.find(DOCS) is None
    api.apply(AT, spec(2))
    await rest(operator)
    assert world.things["docs"].fields["replicas"] == 2


@pytest.mark.parametrize("number", [1, 2], ids=["the finalizer", "the status"])
async def test_an_edit_that_our_own_write_tells_of_first_is_carried_out(
    operator: Operator, api: Api, world: World, number: int
):
    def edit() -> None:
        if number == 1:
            api.late = []
            api.apply(AT, spec(5))
        else:
            api.before["PATCH"] = edit_later

    def edit_later() -> None:
        api.late = []
        api.apply(AT, spec(5))

    api.before["PATCH"] = edit
    api.apply(AT, spec(1))
    await rest(operator)
    api.catch_up()
    await rest(operator)
    assert ready(api) == (2, "True")
    assert world.things["docs"].fields["replicas"] == 5


@pytest.mark.parametrize("late", [False, True], ids=["told at once", "told later"])
async def test_an_object_made_anew_while_the_old_one_goes_is_not_lost(
    operator: Operator,
    api: Api,
    world: World,
    late: bool,  # noqa: FBT001 - a parameter
):
    api.apply(AT, spec(1))
    await rest(operator)

    def anew() -> None:
        if late:
            api.late = []
        api.apply(AT, spec(7))

    api.happening["PATCH"] = anew
    api.delete(AT)
    await rest(operator)
    api.catch_up()
    await rest(operator)
    assert ready(api) == (1, "True")
    assert world.things["docs"].fields["replicas"] == 7
    assert api.objects[AT]["metadata"]["finalizers"]


async def test_a_watch_that_is_behind_brings_back_no_object_that_was_let_go(
    operator: Operator, api: Api, world: World
):
    api.apply(AT, spec())
    await rest(operator)
    kept = copy.deepcopy(api.objects[AT])
    api.late = []
    api.delete(AT)
    operator.observe(api.objects[AT], deleted=False)
    await rest(operator)
    assert AT not in api.objects
    operator.observe(kept, deleted=False)
    await rest(operator)
    assert not world.things
    api.catch_up()
    api.apply(AT, spec(2))
    await rest(operator)
    assert world.things["docs"].fields["replicas"] == 2


async def test_a_list_that_is_behind_the_watch_brings_back_no_object_that_has_gone(
    operator: Operator, api: Api, world: World
):
    api.apply(AT, spec())
    await rest(operator)
    listed = copy.deepcopy(api.objects[AT])
    api.delete(AT)
    await rest(operator)
    assert AT not in api.objects
    calls = len(world.calls)
    operator.observe(listed, deleted=False)
    await rest(operator)
    assert len(world.calls) == calls
    assert not world.things


@pytest.mark.parametrize(("refused", "left_out"), [(2, False), (99, True)])
async def test_a_kind_that_may_not_be_looked_at_is_left_out(
    api: Api, monkeypatch: pytest.MonkeyPatch, refused: int, *, left_out: bool
):
    async def at_once(_: float) -> None:
        pass

    monkeypatch.setattr("auterity.runtime.operator.asyncio.sleep", at_once)
    api.forbidden["vectorindexes"] = refused
    providers = {("VectorIndex", "shelf"): ShelfIndex}
    found = Operator(api, providers, Metrics(), Options())  # type: ignore[arg-type]  # in memory
    try:
        await found.start("testcluster")
        assert ("VectorIndex" not in found.kinds) == left_out
        assert "Connection" in found.kinds
    finally:
        await found.stop()


async def test_a_kind_that_is_switched_off_is_left_alone(api: Api, world: World):
    api.apply(AT, spec())
    before = api.objects[AT]
    options = Options(without=frozenset({"VectorIndex"}))
    providers = {("VectorIndex", "shelf"): ShelfIndex}
    found = Operator(api, providers, Metrics(), options)  # type: ignore[arg-type]  # in memory
    await found.start("testcluster")
    try:
        await rest(found)
    finally:
        await found.stop()
    assert "VectorIndex" not in found.kinds
    assert found.store.find(DOCS) is None
    assert api.objects[AT] == before
    assert not world.things


DEPLOYMENTS = {("ModelDeployment", "fleet"): FleetDeployment}


async def test_a_route_is_visited_counted_and_told_without_a_vendor(api: Api):
    metrics = Metrics()
    found = Operator(api, DEPLOYMENTS, metrics, Options())  # type: ignore[arg-type]  # in memory
    api.tell = found.observe
    await found.start("testcluster")
    try:
        at = f"{ROOT}/modelroutes/chat"
        api.apply(at, {"candidates": [{"name": "absent"}]})
        await rest(found)
        (ready,) = (c for c in api.objects[at]["status"]["conditions"] if c["type"] == "Ready")
        assert ready["message"] == "no candidate has served yet: absent (Missing)"
        assert found.store.users(Key("Connection", "team", "")) == []
        labels = {"kind": "ModelRoute", "vendor": "", "outcome": "DependencyNotReady"}
        assert metrics.registry.get_sample_value("auterity_visits_total", labels) == 1
    finally:
        await found.stop()


@pytest.fixture
async def priced(api: Api, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Operator]:
    """An operator of models that cost 0.1 for each replica, which waits for little."""
    monkeypatch.setattr("auterity.runtime.operator.GATHERED_FOR", 0.1)
    monkeypatch.setattr("auterity.engine.cost.STANDS_BACK", 0.05)
    prices = PriceList(vendor="shelf", as_of=date(2026, 11, 9), source="x", items={"small": 0.1})
    providers = {("ModelDeployment", "shelf"): ShelfModel}
    options = Options(prices=(prices,))
    found = Operator(api, providers, Metrics(), options)  # type: ignore[arg-type]  # in memory
    api.tell = found.observe
    await found.start("testcluster")
    yield found
    await found.stop()


def _model(api: Api, name: str, replicas: int) -> str:
    scaling = {"min": 1, "max": replicas}
    common = {"connectionRef": {"name": "account"}, "deletionPolicy": "Delete"}
    api.apply(f"{ROOT}/modeldeployments/{name}", {**common, **Models.spec, "scaling": scaling})
    return f"{ROOT}/modeldeployments/{name}"


def _reason(api: Api, at: str) -> str:
    return next(
        c["reason"] for c in api.objects[at]["status"]["conditions"] if c["type"] == "Ready"
    )


async def _rest_for_a_while(operator: Operator) -> None:
    for _ in range(5):
        await rest(operator)
        await asyncio.sleep(0.06)


def _visits(operator: Operator, kind: str) -> float:
    families = operator._metrics.registry.collect()
    samples = [s for f in families for s in f.samples if s.name == "auterity_visits_total"]
    return sum(s.value for s in samples if s.labels["kind"] == kind)


async def test_a_budget_is_visited_once_for_many_changes(priced: Operator, api: Api):
    api.apply(f"{ROOT}/budgets/all", {"hourly": 3})
    await _rest_for_a_while(priced)
    before = _visits(priced, "Budget")
    for number in range(30):
        _model(api, f"m{number}", 1)
    await _rest_for_a_while(priced)
    assert api.objects[f"{ROOT}/budgets/all"]["status"]["most"] == 3.0
    assert _visits(priced, "Budget") - before <= 5


async def test_what_waits_for_room_is_woken_by_room_and_by_nothing_else(priced: Operator, api: Api):
    api.apply(f"{ROOT}/budgets/all", {"hourly": 0.4})
    first = _model(api, "a", 2)
    await _rest_for_a_while(priced)
    waits = _model(api, "b", 3)
    await _rest_for_a_while(priced)
    assert (_reason(api, first), _reason(api, waits)) == ("Ready", "OverBudget")
    third = _model(api, "c", 1)
    await rest(priced)
    assert _reason(api, third) == "Ready"
    before = _visits(priced, "ModelDeployment")
    await _rest_for_a_while(priced)
    assert api.objects[f"{ROOT}/budgets/all"]["status"]["most"] == 0.3
    assert _visits(priced, "ModelDeployment") == before
    _model(api, "a", 1)
    await _rest_for_a_while(priced)
    assert _reason(api, waits) == "OverBudget"
    api.delete(first)
    await _rest_for_a_while(priced)
    assert _reason(api, waits) == "Ready"
    assert api.objects[f"{ROOT}/budgets/all"]["status"]["most"] == 0.4
    for at in (waits, third):
        api.delete(at)
    await _rest_for_a_while(priced)
    assert len(priced.store.tally("team")) == 0
    assert priced.store._tallies == {}


async def test_others_are_let_in_only_when_nothing_is_being_granted(priced: Operator):
    drained = asyncio.create_task(priced._drained())
    await asyncio.wait_for(drained, 1)
    with priced.engine.grants.held(Key("ModelDeployment", "team", "a"), 0.5):
        drained = asyncio.create_task(priced._drained())
        await asyncio.sleep(0.12)
        assert not drained.done()
    await asyncio.wait_for(drained, 1)


@pytest.mark.parametrize("kind", ["ModelRoute", "ModelDeployment"])
async def test_routes_are_left_alone_if_they_or_deployments_are(api: Api, kind: str):
    options = Options(without=frozenset({kind}))
    found = Operator(api, DEPLOYMENTS, Metrics(), options)  # type: ignore[arg-type]  # in memory
    assert "ModelRoute" not in found.kinds
    assert "ModelRoute" in Operator(api, DEPLOYMENTS, Metrics(), Options()).kinds  # type: ignore[arg-type]  # as above


ACCOUNT = f"{ROOT}/connections/account"


async def test_a_connection_that_is_good_again_while_it_is_told_not_to_be_is_not_missed(
    operator: Operator, api: Api, world: World
):
    world.token = "token-Another7kd"
    operator.secret_changed("team", "shelf")
    await rest(operator)
    refused = copy.deepcopy(api.objects[ACCOUNT]["status"])
    assert refused["conditions"][0]["reason"] == "CredentialsRejected"

    def good_again() -> None:
        # As another replica tells, which verifies it.
        world.token = TOKEN
        told = [{"type": "Ready", "status": "True", "reason": "Ready"}]
        api.keep(ACCOUNT, {**api.objects[ACCOUNT], "status": {**refused, "conditions": told}})

    api.before["PATCH"] = good_again
    api.apply(AT, spec())
    await rest(operator)
    assert ready(api) == (1, "True")


async def test_a_secret_that_comes_while_its_absence_is_told_is_not_missed(
    operator: Operator, api: Api
):
    password = {"secretKeyRef": {"name": "inside", "key": "password"}}

    def comes() -> None:
        api.objects["/api/v1/namespaces/team/secrets/inside"] = {
            "metadata": {"name": "inside", "uid": "uid-inside", "resourceVersion": "1"},
            "data": {"password": _coded("passwd-Pq72mxlaw4")},
        }
        operator.secret_changed("team", "inside")

    api.before["PATCH"] = comes
    api.apply(AT, {**spec(), "shelf": {"password": password}})
    await rest(operator)
    assert ready(api) == (1, "True")


async def test_a_dependency_that_is_ready_while_it_is_told_not_to_be_is_not_missed(
    operator: Operator, api: Api
):
    first = f"{ROOT}/vectorindexes/first"

    def comes() -> None:
        status = {
            "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}],
        }
        api.keep(first, {**api.objects[first], "status": status})

    api.before["PATCH"] = lambda: None
    api.apply(first, {**spec(), "suspend": True})
    await rest(operator)
    api.before["PATCH"] = comes
    api.apply(AT, {**spec(), "dependsOn": [{"kind": "VectorIndex", "name": "first"}]})
    await rest(operator)
    assert ready(api) == (1, "True")


async def test_what_was_seen_in_a_visit_is_not_looked_at_again(
    operator: Operator, api: Api, world: World
):
    password = {"secretKeyRef": {"name": "inside", "key": "password"}}
    api.objects["/api/v1/namespaces/team/secrets/inside"] = {
        "metadata": {"name": "inside", "uid": "uid-inside", "resourceVersion": "1"},
        "data": {"password": _coded("passwd-Pq72mxlaw4")},
    }
    operator.secret_changed("team", "inside")
    api.apply(AT, {**spec(), "shelf": {"password": password}})
    await rest(operator)
    calls = len(world.calls)
    operator.secret_changed("team", "other")
    await rest(operator)
    assert len(world.calls) == calls


async def test_a_watch_that_is_behind_a_list_brings_back_no_predecessor(
    operator: Operator, api: Api, world: World
):
    api.apply(AT, spec())
    await rest(operator)
    going = copy.deepcopy(api.objects[AT])
    going["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    going["metadata"]["resourceVersion"] = str(next(api.versions))
    # Another replica has let go of it; its successor, which has the same mark, comes by a list.
    successor = copy.deepcopy(api.objects.pop(AT))
    successor["metadata"]["uid"] = "uid-of-the-successor"
    api.keep(AT, successor)
    await rest(operator)
    operator.observe(going, deleted=False)
    await rest(operator)
    operator.observe(going, deleted=True)
    await rest(operator)
    assert set(world.things) == {"docs"}
    assert not [call for call in world.calls if call.startswith("delete")]
    known = operator.store.find(DOCS)
    assert known is not None
    assert known.uid == "uid-of-the-successor"


def _held(thing: object, at: str, sizes: dict[str, int], seen: set[int]) -> dict[str, int]:
    """How much every container holds that can be reached from something of ours."""
    if id(thing) in seen:
        return sizes
    seen.add(id(thing))
    if isinstance(thing, Collection) and not isinstance(thing, str | bytes):
        sizes[at] = sizes.get(at, 0) + len(thing)
        for item in list(thing.values() if isinstance(thing, Mapping) else thing):
            _held(item, f"{at}[]", sizes, seen)
    elif type(thing).__module__.startswith("auterity."):
        slots = [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
        for name in {*getattr(thing, "__dict__", ()), *slots}:
            _held(getattr(thing, name, None), f"{at}.{name}", sizes, seen)
    return sizes


async def _come_and_go(operator: Operator, api: Api, shelf: Shelf, team: str) -> None:
    root = ROOT.replace("/team", f"/{team}")
    secret = f"/api/v1/namespaces/{team}/secrets/shelf"
    api.objects[secret] = api.objects["/api/v1/namespaces/team/secrets/shelf"]
    api.apply(f"{root}/connections/account", {"shelf": shelf.connection(None)})
    for number in range(3):
        # What is retained leaves an Event behind.
        kept = {"deletionPolicy": "Delete" if number else "Retain"}
        api.apply(f"{root}/vectorindexes/{team}-{number}", {**spec(), **kept})
    await rest(operator)
    operator.secret_changed(team, "shelf")
    api.apply(f"{root}/vectorindexes/{team}-1", spec(2))
    await rest(operator)
    api.delete(f"{root}/connections/account")
    await rest(operator)
    for number in range(3):
        api.delete(f"{root}/vectorindexes/{team}-{number}")
    await rest(operator)
    del api.objects[secret]
    assert not [path for path in api.objects if path.startswith(root)]
    api.objects = {path: raw for path, raw in api.objects.items() if "/events/" not in path}


async def test_of_what_came_and_went_nothing_is_left(
    operator: Operator, api: Api, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("auterity.runtime.operator.REMEMBERED", 10)
    monkeypatch.setattr("auterity.engine.connections.CLOSE_AFTER", 0.0)
    most: list[dict[str, int]] = [{}, {}]
    rounds = 40
    for number in range(2 * rounds):
        await _come_and_go(operator, api, shelf, f"team-{number}")
        shelf.world.calls.clear()
        await asyncio.sleep(0.001)
        half = most[number // rounds]
        held = _held(operator, "operator", {}, {id(api), id(shelf.world)})
        half.update({at: max(half.get(at, 0), size) for at, size in held.items()})
    # What is cleared now and then goes up and down; what is left of each round adds up.
    early, late = most
    assert {at: size for at, size in late.items() if size > early.get(at, 0) + rounds // 4} == {}
