"""What connections cost the operator: memory, and seconds until they are verified."""

import asyncio
import json
import os
import pkgutil
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from auterity.api import API_VERSION
from auterity.providers.catalogue import catalogue
from bench.rig import busy_seconds, cpu_seconds, get, resident_kib
from tests import fakes
from tests.conformance.vendor import Vendor
from tests.fakes.serve import stand_ins
from tools.controlplane import Controlplane
from tools.generate import definitions, files
from tools.loopback import HOST, answers, free_port
from tools.process import Process

Figures = dict[str, Any]
Manifest = dict[str, Any]
KINDS = ("ModelDeployment", "VectorIndex")
NAME = "conformant"
"""As some stand-ins expect it: Redis gives its user nothing else."""
REST = 5.0
"""Seconds after everything is ready, until the memory is read."""
PATIENCE = 240.0
SDKS = {
    "boto3": "boto3",
    "google.cloud.aiplatform_v1.services.endpoint_service.client": "google-cloud-aiplatform",
    "google.cloud.aiplatform_v1.services.index_service.client": "google-cloud-aiplatform",
    "google.auth": "google-auth",
    "modal_proto": "modal",
    "pinecone": "pinecone",
    "psycopg": "psycopg",
    "redis": "redis",
}
"""Whose module is whose package; vendors that load none of them are called over HTTP."""
IMPORTED = re.compile(r"^import time: .*\| +(\S+)$", re.MULTILINE)
console = Console(stderr=True)


class Played:
    """A vendor that is played here, and what is declared of it."""

    def __init__(self, vendor: Vendor, finish: Callable[[Any], None]) -> None:
        self.vendor, self._finish = vendor, finish
        self.provider = type(vendor).provider
        self._namespace = f"{self.provider.kind}-{self.provider.vendor}".lower()

    @property
    def connection(self) -> list[Manifest]:
        """A Connection, with its namespace and Secrets."""
        block = {self.provider.connection.vendor: self.vendor.connection(self.vendor.url)}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}
        secrets = [
            {"apiVersion": "v1", "kind": "Secret", "metadata": self._meta(name), "stringData": data}
            for name, data in type(self.vendor).secrets.items()
        ]
        return [namespace, *secrets, self._ours("Connection", block)]

    @property
    def integration(self) -> Manifest:
        """One object of its kind."""
        # Some vendors let nothing go for minutes, as they do in truth: they are reset instead.
        spec = {"connectionRef": {"name": NAME}, "deletionPolicy": "Retain"}
        return self._ours(self.provider.kind, {**spec, **type(self.vendor).spec})

    def reset(self) -> None:
        """Let the vendor forget everything."""
        self._finish(self.vendor.reset())

    def _ours(self, kind: str, spec: Manifest) -> Manifest:
        meta = self._meta(NAME)
        return {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}

    def _meta(self, name: str) -> Manifest:
        return {"name": name, "namespace": self._namespace}


class Place:
    """A control plane with our CRDs."""

    def __init__(self, controlplane: Controlplane, folder: Path) -> None:
        self._folder = folder
        self.kubeconfig = controlplane.kubeconfig
        self.kubectl = controlplane.kubectl
        crds = "---\n".join(definitions(files(catalogue())).values())
        self.kubectl("apply", "--server-side", "-f", "-", input=crds)
        self.kubectl("wait", "--for=condition=Established", "crd", "--all")

    def declare(self, documents: Sequence[Manifest]) -> None:
        self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))

    def forget(self, documents: Sequence[Manifest]) -> None:
        """Delete our kinds among them; what they stand in stays."""
        ours = [d for d in reversed(documents) if d["apiVersion"] == API_VERSION]
        given = yaml.safe_dump_all(ours)
        self.kubectl("delete", "--wait", "-f", "-", input=given, timeout=PATIENCE)

    def unready(self) -> list[str]:
        """What is not ready yet, and why."""
        told = self.kubectl("get", "integrations", "--all-namespaces", "-o", "json")
        return [
            f"{raw['kind']} {raw['metadata']['namespace']}: {why}"
            for raw in json.loads(told)["items"]
            if (why := _unready(raw)) is not None
        ]

    @contextmanager
    def operator(self, *, traced: bool = False) -> Iterator["Running"]:
        """A fresh operator of the whole cluster, ready."""
        port = free_port()
        log = self._folder / f"operator-{port}.log"
        args = [sys.executable, "-m", "auterity", "run", "--allow-insecure-endpoints"]
        args += ["--listen", f"{HOST}:{port}", "--log-format", "json", "--log-level", "warning"]
        env = {"KUBECONFIG": str(self.kubeconfig)}
        if traced:
            env["PYTHONPROFILEIMPORTTIME"] = "1"
        process = Process(args, log=log, env=env)
        start = time.monotonic()
        process.start()
        try:
            process.wait_until(lambda: answers(f"http://{HOST}:{port}/readyz"))
            yield Running(process, port, start, time.monotonic() - start)
        finally:
            process.stop(seconds=30)


class Running:
    """An operator's process, read from outside."""

    def __init__(self, process: Process, port: int, start: float, ready_seconds: float) -> None:
        self._process, self._port, self._start = process, port, start
        self.ready_seconds = ready_seconds

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self._start

    @property
    def cpu_seconds(self) -> float:
        return cpu_seconds(self._process.pid)

    def at_rest(self) -> float:
        """MiB that are resident, once nothing is left to be done."""
        time.sleep(REST)
        return resident_kib(self._process.pid) / 1024

    def visits(self) -> int:
        """How many visits of objects there were."""
        text = get(f"http://{HOST}:{self._port}/metrics")
        return int(
            sum(
                sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == "auterity_visits_total"
            )
        )

    def sdks(self) -> list[str]:
        """The SDKs that it has loaded so far, if it is traced."""
        loaded = set(IMPORTED.findall(self._process.log.read_text(errors="replace")))
        return sorted({package for module, package in SDKS.items() if module in loaded})

    def until(self, what: str, reached: Callable[[], bool]) -> float:
        """Wait; the seconds since the start when it was so."""
        while not reached():
            if self.seconds > PATIENCE or not self._process.alive:
                raise TimeoutError(f"{what}: {self._process.tail()}")
            time.sleep(0.1)
        return self.seconds


def connections() -> Figures:
    """All that is measured here, each on a fresh operator."""
    folder = Path(tempfile.mkdtemp(prefix="auterity-bench-"))
    start, busy, own = time.monotonic(), busy_seconds(), _own_seconds()
    with Controlplane() as controlplane, played() as vendors:
        place = Place(controlplane, folder)
        with place.operator() as operator:
            nothing = {"ready_seconds": operator.ready_seconds, "mib": operator.at_rest()}
        _say("nothing declared", nothing)
        alone = [_alone(place, one, nothing["mib"]) for one in vendors]
        together = [
            figures
            for kinds in (KINDS[:1], KINDS)
            for figures in _together(place, [v for v in vendors if v.provider.kind in kinds], kinds)
        ]
        others = busy_seconds() - busy - (_own_seconds() - own)
    shutil.rmtree(folder)
    return {
        "others_cores": max(0.0, others / (time.monotonic() - start)),
        "nothing": nothing,
        "alone": alone,
        "together": together,
    }


@contextmanager
def played() -> Iterator[list[Played]]:
    """Stand-ins for every vendor of these kinds, in a loop of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    vendors = [cls() for cls in _classes()]

    def finish(work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE)

    started = []
    try:
        for vendor in vendors:
            finish(vendor.start())
            started.append(vendor)
            finish(vendor.reset())
        yield [Played(vendor, finish) for vendor in vendors]
    finally:
        for vendor in reversed(started):
            finish(vendor.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def _classes() -> list[type[Vendor]]:
    found = [
        cls
        for info in pkgutil.iter_modules(fakes.__path__)
        for cls in stand_ins(info.name).values()
        if cls.provider.kind in KINDS and not cls.variant
    ]
    if missing := [f"{cls.provider.vendor}: {why}" for cls in found if (why := cls.missing())]:
        raise RuntimeError(f"not to be played here: {'; '.join(missing)}")
    return sorted(found, key=lambda cls: (cls.provider.kind, cls.provider.vendor.lower()))


def _alone(place: Place, one: Played, nothing: float) -> Figures:
    """One vendor: what its connection adds, and then an object of it."""
    place.declare(one.connection)
    with place.operator(traced=True) as operator:
        _until_ready(place, operator)
        connected = operator.at_rest()
        place.declare([one.integration])
        _until_ready(place, operator)
        kept = operator.at_rest()
        sdks = operator.sdks()
        place.forget([*one.connection, one.integration])
    one.reset()
    figures = {
        "kind": one.provider.kind,
        "vendor": one.provider.vendor,
        "sdks": sdks,
        "connection_mib": connected - nothing,
        "object_mib": kept - nothing,
    }
    _say(f"{one.provider.kind} at {one.provider.vendor}", figures)
    return figures


def _together(place: Place, vendors: list[Played], kinds: Sequence[str]) -> Iterator[Figures]:
    """All of them: the connections, and an object each; at once, as after a restart."""
    connected = [document for one in vendors for document in one.connection]
    kept = [one.integration for one in vendors]
    what = f"{len(vendors)} vendors of {' and '.join(kinds)}: "
    place.declare(connected)
    for text, declared in (("a connection each", []), ("and an object each", kept)):
        if declared:
            place.declare(declared)
            with place.operator() as operator:
                # Made by one operator, and at rest when the next one starts.
                _until_ready(place, operator)
        with place.operator() as operator:
            if declared:
                seconds = operator.until("visits", lambda: operator.visits() >= len(declared))  # noqa: B023 - called at once
            else:
                seconds = _until_ready(place, operator)
            figures: Figures = {
                "what": what + text,
                "ready_seconds": operator.ready_seconds,
                "caught_up_seconds": seconds,
                "cpu_seconds": operator.cpu_seconds,
                "mib": operator.at_rest(),
            }
            _say(figures["what"], figures)
            if declared:
                place.forget([*connected, *declared])
                for one in vendors:
                    one.reset()
        yield figures


def _until_ready(place: Place, operator: Running) -> float:
    unready: list[str] = []

    def reached() -> bool:
        unready[:] = place.unready()
        return not unready

    try:
        return operator.until("everything becoming ready", reached)
    except TimeoutError as error:
        raise TimeoutError(f"{'; '.join(unready)}\n{error}") from error


def _unready(raw: Manifest) -> str | None:
    conditions = (raw.get("status") or {}).get("conditions") or ()
    ready = [c for c in conditions if c["type"] == "Ready"]
    if ready and ready[0]["status"] == "True":
        return None
    return str(ready[0].get("message") or ready[0]["reason"]) if ready else "not looked at yet"


def _own_seconds() -> float:
    """What this process has used, and all that it has started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    mine = os.times()
    ended = mine.children_user + mine.children_system
    living = 0.0
    for pid in family:
        with suppress(OSError):
            living += cpu_seconds(pid)
    return ended + living


def _say(what: str, figures: Figures) -> None:
    told = [f"{k} {v:.1f}" for k, v in figures.items() if isinstance(v, float)]
    console.print(f"{what}: {', '.join([*told, *figures.get('sdks', ())])}", highlight=False)
