"""Words for times, lengths of time and sizes, as every face of the overview says them."""

from __future__ import annotations

from datetime import datetime

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0

OUTCOMES = {"findings": "findings", "none": "no findings", "unsuitable": "not suitable", "failed": "failed"}
"""Outcomes of a job, as people read them."""


def age(seconds: float) -> str:
    """Say a length of time with one unit, two for hours (``42 s``, ``7 min``, ``3 h 5 min``, ``5 days``)."""
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * MINUTE_S:
        return f"{seconds / MINUTE_S:.0f} min"
    if seconds < 2 * DAY_S:
        hours, minutes = divmod(round(seconds / MINUTE_S), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{seconds / DAY_S:.0f} days"


def size(count: float) -> str:
    """Say a number of bytes with the unit that fits (``3.8 GB``)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(count: int, noun: str) -> str:
    """Say how many there are of a thing whose plural has an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def clock(at: float, now: float) -> str:
    """Say a time of today by the clock, and another one with its date."""
    moment, today = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(now).astimezone()
    return f"{moment:%H:%M:%S}" if moment.date() == today.date() else f"{moment:%Y-%m-%d %H:%M}"
