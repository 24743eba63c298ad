"""Failures, named by how the engine reacts to them.

    Failure
    ├── Unavailable      the vendor cannot answer now: back off
    │   └── Fenced       this replica may not ask: another goes on
    ├── Throttled        the vendor asks for patience: pause the whole connection
    ├── Unauthorized     the credentials are refused: wait for new ones
    ├── Rejected         the vendor refuses what is asked: wait for an edit
    │   └── NotFound     what is asked about does not exist
    ├── Conflict         the object is another's: a person decides
    ├── Busy             the vendor is still working on the object: look again soon
    └── DependencyNotReady  something this object refers to is missing or not ready

Messages are shown to users in conditions: what, where, what to do; the same text on every visit;
no secret, no timestamp, no request id.
"""

from typing import Final

LONGEST_PATIENCE: Final = 24 * 3600.0
"""Seconds. Some vendors tell a second of the epoch where they should tell how long to wait."""


class Failure(Exception):  # noqa: N818 - named by the reaction, not by the mishap
    """A visit could not do what it should, for a reason that a user can be told."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unavailable(Failure):
    """Transport error, 5xx, or an answer that is not what the vendor's API promises."""


class Fenced(Unavailable):
    """This replica may no longer act; says nothing about the vendor."""


class Throttled(Failure):
    """429 and the vendor's own forms of it; `retry_after` in seconds, if the vendor tells."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = None if retry_after is None else min(retry_after, LONGEST_PATIENCE)


class Unauthorized(Failure):
    """401 and 403: the credentials are wrong, expired, or may not do this."""


class Rejected(Failure):
    """400, 422 and the like: the request itself is refused, and repeating it will not help."""


class NotFound(Rejected):
    """404: the object, or something the request names, does not exist."""


class Conflict(Failure):
    """409: something of that name exists, or is someone else's."""


class Busy(Failure):
    """The vendor is still working on the object and refuses changes until it is done."""


class DependencyNotReady(Failure):
    """A connection, a Secret, a reference or a dependency is missing or not ready."""
