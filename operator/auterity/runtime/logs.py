"""Logs: JSON for machines or a console for people, and the change log."""

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import fields
from typing import Any, Literal

import orjson
import structlog

from auterity.engine.changelog import ChangeRecord
from auterity.engine.redaction import hide

Format = Literal["json", "console"]
_QUIET = ("kopf.objects", "kopf.activities", "httpx", "aiohttp.access", "botocore", "urllib3")
_FIELDS = ("object", "frames")
_RECORD = tuple(field.name for field in fields(ChangeRecord))


def configure(form: Format, level: str) -> None:
    """Set up logging for the whole process; everything goes to stderr, secrets hidden."""
    stamped: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shared: list[Any] = [
        *stamped,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=_FIELDS),
        structlog.stdlib.PositionalArgumentsFormatter(),
        _hide,
    ]
    last: Any = (
        structlog.processors.JSONRenderer(serializer=_json)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    # Straight to the stream: through the standard library's logging, which everything else uses,
    # the change log would cost each visit that changes something three times as much.
    structlog.configure(
        processors=[*stamped, _hide, last],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _hide,
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class LoggedChanges:
    """The change log as structured log records of the logger `auterity.changes`."""

    def __init__(self) -> None:
        self._log = structlog.get_logger().bind(logger="auterity.changes")

    def write(self, record: ChangeRecord) -> None:
        told = {k: v for k in _RECORD if (v := getattr(record, k)) not in (None, "", ())}
        told |= {"subject": str(record.subject), "connection": str(record.connection)}
        # A reader of the log that has gone must not stop what the log is about.
        with suppress(OSError):
            self._log.info("change", **told)


def _hide(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {k: hide(v) if isinstance(v, str) else v for k, v in event.items()}


def _json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()
