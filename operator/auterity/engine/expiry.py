"""Time to live: when an integration is deleted at its vendor, and when to warn of it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from auterity.api.fields import seconds

WARN_BEFORE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Expiry:
    """When an object expires; `at` is None if never."""

    at: datetime | None
    now: datetime
    lifetime: timedelta = timedelta()

    @classmethod
    def of(cls, ttl: str | None, created_at: str, now: str) -> "Expiry":
        """Reckon from the object's creation; times are RFC 3339."""
        present = datetime.fromisoformat(now)
        if ttl is None:
            return cls(None, present)
        lifetime = timedelta(seconds=seconds(ttl))
        return cls(datetime.fromisoformat(created_at) + lifetime, present, lifetime)

    @property
    def passed(self) -> bool:
        """Whether it has expired."""
        return self.at is not None and self.now >= self.at

    @property
    def warning(self) -> str | None:
        """What to tell while the end is near: in the last hour, or the last tenth if shorter."""
        if self.at is None or self.now < self._warn_at(self.at):
            return None
        moment = self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"spec.ttl ends at {moment}: it will then be deleted at the vendor"

    def next_visit(self, interval: str) -> float | None:
        """Seconds until something is due before the interval; None if nothing is."""
        if self.at is None:
            return None
        due = self.at if self.now >= self._warn_at(self.at) else self._warn_at(self.at)
        return min(seconds(interval), max(0.1, (due - self.now).total_seconds()))

    def _warn_at(self, at: datetime) -> datetime:
        return at - min(WARN_BEFORE, self.lifetime / 10)
