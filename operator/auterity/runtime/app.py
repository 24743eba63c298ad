"""Starts and stops the whole process: Kopf's watches, the operator, probes and metrics."""

import asyncio
import logging
import signal
from collections.abc import Sequence
from typing import Any

import kopf
import uvloop

from auterity.engine.declared import Providers, connectors
from auterity.runtime import garbage, handlers, secrets
from auterity.runtime.cluster import identity
from auterity.runtime.health import Health
from auterity.runtime.kube import Kube
from auterity.runtime.metrics import Metrics
from auterity.runtime.operator import Operator, Options

log = logging.getLogger("auterity.runtime")


def run(providers: Providers, options: Options, *, host: str, port: int) -> None:
    """Run until SIGTERM or SIGINT; then finish the visits in hand.

    Raises kopf.LoginError without credentials, ClusterUnavailable if the cluster has no identity.
    """
    garbage.give_back_large_buffers()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(providers, options, host, port))


async def _run(providers: Providers, options: Options, host: str, port: int) -> None:
    stop = asyncio.Event()
    _take_signals(stop)
    metrics = Metrics()
    kube = Kube(metrics.wrote)
    operator = Operator(kube, providers, metrics, options)
    advises = asyncio.Event()
    if options.admission is None:
        advises.set()
    health = Health(
        metrics.registry,
        alive=lambda: True,
        ready=lambda: operator.started and advises.is_set() and not operator.stopping,
    )
    await health.start(host, port)
    try:
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait())]
        # Before any Secret is read, so that no change of one goes unnoticed.
        tasks += [
            asyncio.create_task(secrets.watch(kube, namespace, operator.secret_changed))
            for namespace in options.namespaces or ("",)
        ]
        starts = asyncio.create_task(_start(operator, kube))
        done, _ = await asyncio.wait([starts, *tasks], return_when=asyncio.FIRST_COMPLETED)
        if starts in done:
            starts.result()
            tasks.append(asyncio.create_task(garbage.collect()))
            tasks.append(asyncio.create_task(operator.members.run()))
            tasks += await _watches(operator)
            if options.admission is not None:
                advice = _advise(kube, operator, options.admission, advises)
                tasks.append(asyncio.create_task(advice))
            # Kopf has taken the signals; the visits in hand must end before its watches do.
            _take_signals(stop)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        else:
            # The API server may be away for long.
            await _end([starts])
        log.info("stopping")
        await operator.stop()
        await _end(tasks)
        for task in done:
            task.result()
    finally:
        await kube.close()
        await health.stop()


async def _start(operator: Operator, kube: Kube) -> None:
    await operator.start(await identity(kube, operator.options.cluster_name))
    garbage.leave_what_lasts()


async def _watches(operator: Operator) -> list[asyncio.Task[object]]:
    """Kopf's tasks. Run by hand: `kopf.operator` would end every task of the loop with its own."""
    tasks = await kopf.spawn_tasks(
        registry=handlers.registry(operator),
        settings=kopf.OperatorSettings(),
        memories=handlers.NoMemories(),
        # Else Kopf asks for the user's name, and in a container its number may have none.
        identity=operator.options.replica,  # type: ignore[arg-type]  # Kopf's own NewType of str
        clusterwide=not operator.options.namespaces,
        namespaces=operator.options.namespaces,
        standalone=True,
    )
    return list(tasks)


async def _advise(
    kube: Kube, operator: Operator, configuration: str, advises: asyncio.Event
) -> None:
    """Advise the API server. Loaded only here: it costs nothing where it is off."""
    from auterity.engine.advice import Adviser
    from auterity.runtime.admission import Webhook

    options, providers = operator.options, operator.providers
    prices = operator.engine.prices
    adviser = Adviser(operator.cluster, providers, connectors(providers), prices)
    listen, namespace = options.admission_listen, options.lease_namespace
    await Webhook(kube, adviser, configuration, namespace, listen).run(advises.set)


def _take_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=5.0)
