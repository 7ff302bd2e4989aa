"""The hours of the day in which an archive may be asked."""

from __future__ import annotations

from datetime import datetime, timedelta

from dicom_node.config.sections import window_minutes


def opens_in_s(window: str, now: datetime) -> float:
    """Return the seconds until a window is open, by local time; 0 within it."""
    begin, end = window_minutes(window)
    minute = now.hour * 60 + now.minute
    is_open = begin <= minute < end if begin < end else minute >= begin or minute < end
    if is_open:
        return 0.0
    opening = now.replace(hour=begin // 60 % 24, minute=begin % 60, second=0, microsecond=0)
    if opening <= now:
        opening += timedelta(days=1)
    return (opening - now).total_seconds()
