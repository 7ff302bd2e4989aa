"""Pages of the overview: HTML made on the server, without a script and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from dicom_node import __version__
from dicom_node.jobs.why import History, at
from dicom_node.overview.overview import Overview
from dicom_node.overview.words import OUTCOMES, age, counted, size
from dicom_node.worklog.records import Record

if TYPE_CHECKING:
    from jinja2 import Environment

REFRESH_S = 15
LISTED = 100
"""So many stuck things stand on the page; ``dicom-node status`` lists all."""

_LEVELS = {
    "held": "warning",
    "undelivered": "error",
    "no-pipeline": "warning",
    "delivered": "ok",
    "failed": "error",
}


def overview_page(overview: Overview, records: Sequence[Record]) -> str:
    """Return the first page.

    Parameters
    ----------
    records : sequence of Record
        The last lines of the worklog, newest first.
    """
    return _render(
        "overview.html",
        overview.ae_title,
        overview.at,
        page="overview",
        overview=overview,
        records=records,
        listed=LISTED,
        refresh_s=REFRESH_S,
    )


def worklog_page(ae_title: str, records: Sequence[Record], now: float) -> str:
    """Return the page with lines of the worklog, newest first."""
    return _render("worklog.html", ae_title, now, page="worklog", records=records, refresh_s=REFRESH_S)


def why_page(
    ae_title: str, wanted: str, histories: Sequence[History], records: Sequence[Record], now: float
) -> str:
    """Return the page of a series or job: its history, without any UID, and its lines of the worklog, newest first."""
    return _render(
        "why.html",
        ae_title,
        now,
        page="why",
        wanted=wanted,
        histories=histories,
        records=records,
        refresh_s=REFRESH_S,
    )


def message_page(ae_title: str, heading: str, text: str, now: float) -> str:
    """Return a page that says one thing, such as that there is no such page."""
    return _render("message.html", ae_title, now, page="message", heading=heading, text=text, refresh_s=0)


def style_sheet() -> str:
    """Return the style sheet of all pages."""
    return (files("dicom_node.overview") / "templates" / "style.css").read_text(encoding="utf-8")


def _render(template: str, ae_title: str, now: float, **values: Any) -> str:
    return (
        _environment()
        .get_template(template)
        .render(ae_title=ae_title, version=__version__, now=now, **values)
    )


@cache
def _environment() -> Environment:
    """Return the templates; a placeholder that is not filled is an error, and every value is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - the node starts without it

    environment = Environment(
        loader=PackageLoader("dicom_node.overview"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "age": age,
        "counted": counted,
        "iso": _iso,
        "level": _level,
        "outcome": lambda outcome: OUTCOMES.get(outcome, outcome),
        "size": size,
        "stamp": at,
    }
    return environment


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _level(state: str) -> str:
    """Return the colour of a state, with or without an outcome behind it."""
    name, _, outcome = state.partition(", ")
    return "error" if outcome == "failed" else _LEVELS.get(name, "plain")
