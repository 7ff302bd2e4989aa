"""The overview on the console."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

from rich.text import Text

from dicom_node.overview.overview import ListedJob, Overview, Stuck
from dicom_node.overview.words import OUTCOMES, age, clock, counted, size

Row = tuple[str | Text, ...]

LEVELS = {"error": "bold red", "warning": "yellow"}


def screen(overview: Overview) -> Iterator[Text]:
    """Yield what ``dicom-node status`` prints, from what is stuck to the figures of today."""
    state = Text("runs", "green") if overview.is_running else Text("does not run", "bold red")
    yield Text.assemble(
        (overview.ae_title, "bold"),
        "  dicom-node ",
        overview.version,
        "  ",
        state,
        f"  {clock(overview.at, 0)}",
    )
    yield from _stuck(overview)
    yield _heading("Under way")
    yield from _rows(
        (
            stage.name,
            counted(stage.count, "job" if stage.name != "coming in" else "series").replace(
                "seriess", "series"
            ),
            f"oldest {stage.oldest_id[:8]}, {age(overview.at - stage.oldest_at)}" if stage.oldest_at else "",
        )
        for stage in overview.stages
    )
    yield from _workers(overview)
    yield _heading("Destinations")
    yield from _rows(_destinations(overview))
    yield _heading("Disk")
    disk = overview.disk
    yield from _rows(
        [
            (
                f"{disk.used_share:.0%} in use",
                f"{size(disk.free)} of {size(disk.total)} free",
                f"images are refused over {disk.high_water:.0%}",
            ),
            (
                f"{disk.series:,} series kept",
                f"{disk.inbox:,} in the inbox",
                f"{disk.quarantine:,} in quarantine",
            ),
        ]
    )
    yield from today(overview)


def today(overview: Overview, jobs: Iterable[ListedJob] = ()) -> Iterator[Text]:
    """Yield the figures of today, and a line for each of its jobs where they are given."""
    day = overview.today
    yield _heading("Today")
    turnaround = (
        "no turnaround yet"
        if day.median_s is None or day.worst_s is None
        else f"turnaround {age(day.median_s)} in the median, {age(day.worst_s)} at worst ({day.worst_id[:8]})"
    )
    outcomes = ", ".join(f"{count} {OUTCOMES[name]}" for name, count in day.analysed.items())
    yield from _rows(
        [
            ("received", f"{day.series:,} series, {counted(day.images, 'image')}"),
            ("analysed", f"{sum(day.analysed.values()):,}: {outcomes}"),
            ("failed", Text(f"{day.failed:,}", "bold red" if day.failed else "")),
            ("delivered", f"{day.delivered:,}, {turnaround}"),
        ]
    )
    rows = [_job(job, overview.at) for job in jobs]
    if rows:
        yield _heading("Jobs of today")
        yield from _rows(rows)


def _job(job: ListedJob, now: float) -> tuple[str, ...]:
    number = "" if job.series_number is None else f"series {job.series_number}"
    seconds = "" if job.turnaround_s is None else f"after {age(job.turnaround_s)}"
    outcome = OUTCOMES.get(job.outcome, job.outcome)
    return (clock(job.created_at, now), job.id[:8], job.pipeline, number, job.state, outcome, seconds)


def _stuck(overview: Overview) -> Iterator[Text]:
    if not overview.stuck:
        yield _heading("Nothing is stuck", "bold green")
        return
    yield _heading(f"Stuck: {len(overview.stuck):,}", "bold red" if overview.errors else "bold yellow")
    for one in overview.stuck:
        yield from _lines(one, overview.at)


def _lines(one: Stuck, now: float) -> Iterator[Text]:
    since = f"  for {age(now - one.since)}" if one.since is not None else ""
    yield Text.assemble("  ", (one.what, LEVELS[one.level]), (since, "dim"))
    if one.reason:
        yield Text(f"    {one.reason}")
    yield Text.assemble("    ", (one.command, "cyan"), "  ", (one.effect, "dim"))


def _workers(overview: Overview) -> Iterator[Text]:
    yield _heading("Workers")
    rows: list[Row] = []
    for one in overview.workers:
        sign = (
            Text("answers", "green")
            if one.is_alive
            else Text(f"gone for {age(overview.at - one.last_at)}", "red")
        )
        rows.append((one.host, one.device, ", ".join(one.queues), f"version {one.version}", sign))
    yield from _rows(rows or [(Text("none has answered", "yellow"),)])


def _destinations(overview: Overview) -> Iterator[Row]:
    for one in overview.destinations:
        last = (
            f"last success {age(overview.at - one.last_success_at)} ago"
            if one.last_success_at
            else "no success yet"
        )
        if one.objects:
            since = f" for {age(overview.at - one.oldest_at)}" if one.oldest_at else ""
            backlog = Text(
                f"{counted(one.objects, 'object')} of {counted(one.jobs, 'job')} wait{since}",
                "red" if one.reason else "",
            )
        else:
            backlog = Text("nothing waits", "green")
        unproven = f"{one.unproven:,} without proof yet" if one.unproven else ""
        yield one.name, one.address, backlog, last, unproven
    if not overview.destinations:
        yield (Text("none: results stay in the data folder", "yellow"),)


def _heading(words: str, style: str = "bold") -> Text:
    return Text(f"\n{words}", style)


def _rows(rows: Iterable[Row]) -> Iterator[Text]:
    """Yield lines whose columns are aligned, and which are broken nowhere."""
    table = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    width = [max(cell.cell_len for cell in column) for column in zip_longest(*table, fillvalue=Text())]
    for row in table:
        line = Text("  ")
        for cell, columns in zip(row, width, strict=False):
            line.append_text(cell).append(" " * (columns - cell.cell_len + 3))
        line.rstrip()
        yield line
