"""Figures as a reader wants them: 1.2 MB, 3 min 5 s, 22 Nov 2026 11:06 UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def duration(seconds: float | None) -> str:
    """0.4 s, 12 s, 3 min 5 s, 2 h 4 min; empty for None."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float | None) -> str:
    """Bytes in decimal units; empty for None."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def moment(text: Any) -> str:
    """An ISO moment as `22 Nov 2026, 11:06 UTC`; seconds and midnight are left out; other text as it is."""
    try:
        then = datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        return str(text)
    day = f"{then.day} {then:%b %Y}"
    return day if (then.hour, then.minute, then.second) == (0, 0, 0) else f"{day}, {then:%H:%M} UTC"


def number(value: Any) -> str:
    """A metric: 1,234 or 0.1234; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"


def measure(value: Any, unit: str) -> str:
    """A figure with its unit; bytes as `size` has them."""
    return size(value) if unit == "bytes" else f"{number(value)} {unit}"
