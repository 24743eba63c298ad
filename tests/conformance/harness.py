"""The operator without Kubernetes: the engine over a cluster in memory and one vendor."""

import asyncio
import json
from typing import Any

from auterity.engine.connections import Connections
from auterity.engine.contract import Connector, Observed, Provider
from auterity.engine.listings import Listings
from auterity.engine.reconcile import visit
from auterity.engine.subject import JSON, Key, Subject
from auterity.engine.verdict import Again, Verdict
from auterity.engine.visit import Engine
from tests.conformance.cluster import NAMESPACE, MemoryCluster, Recorder
from tests.conformance.faults import FaultProxy, Killed, Script
from tests.conformance.vendor import Vendor

NAME = "conformant"
MOST_VISITS = 60


class Harness:
    """Drives one vendor through the engine, with faults on demand."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.provider = type(vendor).provider
        self.cluster = MemoryCluster()
        self.recorder = Recorder()
        self.script = Script()
        self.proxy = FaultProxy()
        self.connection = Key("Connection", NAMESPACE, "vendor")
        self.key = Key(self.provider.kind, NAMESPACE, NAME)
        self.endpoint: str | None = None

    async def start(self) -> None:
        if self.vendor.url is not None:
            directly = await self.vendor.spoiled(self.proxy.spoil)
            self.endpoint = directly or await self.proxy.start(self.vendor.url)
        for name, data in type(self.vendor).secrets.items():
            self.cluster.put_secret(name, data)
        self.vendor.mount(self.cluster.secret_store(NAMESPACE))
        connector = self.provider.connection.vendor
        self.cluster.put(
            "Connection",
            "vendor",
            {
                connector: self.vendor.connection(self.endpoint),
                "rateLimit": {"perSecond": 10000, "burst": 10000, "concurrent": 50},
            },
        )
        self.restart()
        self.baseline = await self.vendor.count()

    async def stop(self) -> None:
        await self.connections.close()
        await self.proxy.stop()

    def restart(self) -> None:
        """A new operator process over the same cluster."""
        connectors: dict[str, type[Connector]] = {
            self.provider.connection.vendor: self.provider.connection
        }
        self.connections = Connections(
            self.cluster,
            connectors,
            self.recorder,
            allow_insecure=True,
            door=self.script.door(),
        )
        self.engine = Engine(
            cluster=self.cluster,
            connections=self.connections,
            providers={(self.provider.kind, self.provider.vendor): self.provider},
            listings=Listings(),
            observer=self.recorder,
            changes=self.recorder,
        )

    @property
    def subject(self) -> Subject:
        return self.cluster.subjects[self.key]

    @property
    def ready(self) -> JSON:
        condition = self.subject.condition("Ready")
        assert condition is not None, "the visit left no Ready condition"
        return condition

    def condition(self, type_: str) -> bool:
        return (self.subject.condition(type_) or {}).get("status") == "True"

    def apply(self, spec: Any = None, **common: Any) -> None:
        """As `kubectl apply`."""
        spec = spec if spec is not None else type(self.vendor).spec
        self.cluster.put(
            self.key.kind,
            self.key.name,
            {"connectionRef": {"name": "vendor"}, "deletionPolicy": "Delete", **spec, **common},
        )

    async def visit(self, *, urgent: bool = True) -> Verdict:
        """One visit; a process that dies in it is restarted by the caller."""
        return await visit(self.engine, self.subject, urgent=urgent)

    async def converge(self) -> Verdict:
        """Visit as the schedule would, with all waiting left out, until the object rests."""
        verdict = Verdict("none")
        for number in range(MOST_VISITS):
            self.forgive()
            verdict = await self.visit()
            if verdict.gone:
                return verdict
            resting = verdict.again in (Again.AFTER, Again.NEVER)
            if resting and verdict.outcome not in ("RateLimited", "Adopting"):
                return verdict
            await self.wait(number)
        message = f"not settled after {MOST_VISITS} visits: {self.ready}"
        raise AssertionError(message)

    async def wait(self, visits: int) -> None:
        """Let the vendor get on, after so many visits."""
        await self.vendor.settle()
        if self.vendor.takes_time:
            # Mostly it is quick: the first waits are short, and all of them together as long as a
            # busy server may take.
            await asyncio.sleep(min(0.0005 * visits**2, 0.5))

    async def converge_in_spite_of_death(self) -> Verdict:
        """Converge; whenever the operator is killed, start it anew."""
        for _ in range(MOST_VISITS):
            try:
                return await self.converge()
            except Killed:
                self.script.clear()
                await self.connections.close()
                self.restart()
        raise AssertionError("killed for ever")

    async def make(self, **common: Any) -> str:
        """Apply and converge to Ready; the vendor's id."""
        self.apply(**common)
        await self.converge()
        assert self.ready["status"] == "True", self.ready
        return str(self.subject.status["id"])

    async def remove(self) -> None:
        """Delete the object and converge until it is gone."""
        if self.key in self.cluster.subjects:
            self.cluster.delete(self.key)
        while self.key in self.cluster.subjects:
            await self.converge()

    async def opened(self) -> Provider[Any, Any]:
        """The provider over the connection's session."""
        from auterity.api.common import ConnectionRef

        opened = await self.connections.session(NAMESPACE, ConnectionRef(name="vendor"))
        return self.provider(opened.session)

    async def read(self) -> Observed[Any] | None:
        return await (await self.opened()).read(self.subject.status["id"])

    def forgive(self) -> None:
        """Forget pauses and failures, so that no test waits for them."""
        for budget in self.connections.budgets.values():
            budget.reset()

    def forget_faults(self) -> None:
        self.proxy.clear()
        self.script.clear()
        self.forgive()

    def vendor_writes(self) -> list[str]:
        return [m for m in self.script.methods if self.vendor.written(m)]

    def everything_told(self) -> str:
        """All that people and machines get to see, as one text."""
        statuses = {str(k): s.status for k, s in self.cluster.subjects.items()}
        notes = {str(k): s.annotations for k, s in self.cluster.subjects.items()}
        return json.dumps(
            [
                statuses,
                notes,
                self.cluster.events,
                self.recorder.visits,
                self.recorder.calls,
                self.recorder.drift,
                [repr(change) for change in self.recorder.changes],
            ]
        )
