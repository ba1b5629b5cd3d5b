"""Times, durations and sizes as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def size_text(size: int) -> str:
    """Bytes in decimal units: ``31.0 MB``, ``1.5 kB``, ``12 bytes``."""
    from rich.filesize import decimal

    return decimal(size)


def local_time(moment: datetime) -> str:
    """``2026-11-02 13:05:09`` in this machine's time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def rfc3339(moment: datetime) -> str:
    """The same moment in UTC, for programs."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def ago(moment: datetime, now: datetime | None = None) -> str:
    """``3 mins ago``."""
    seconds = max(0.0, ((now or datetime.now(UTC)) - moment).total_seconds())
    units = (("day", 86400), ("hour", 3600), ("min", 60), ("sec", 1))
    unit, length = next((each for each in units if seconds >= each[1]), units[-1])
    count = int(seconds // length)
    return f"{count} {unit}{'' if count == 1 else 's'} ago"


def duration(start: datetime | None, end: datetime | None, now: datetime | None = None) -> str:
    """``1h 02m 03s`` from start to end, or to now while there is no end."""
    if start is None:
        return "-"
    seconds = max(0, int(((end or now or datetime.now(UTC)) - start).total_seconds()))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m {seconds:02}s"
    return f"{minutes}m {seconds:02}s" if minutes else f"{seconds}s"


def progress(step: int | None, total: int | None) -> str:
    """``12.34%``; the bare step when the total is unknown."""
    if step is None:
        return "-"
    return f"{100 * step / total:.2f}%" if total else f"step {step}"
