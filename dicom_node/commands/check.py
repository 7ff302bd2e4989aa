"""``check``: everything that the node needs, looked at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from dicom_node.commands.console import ConfigOption, out, settings_of
from dicom_node.errors import NodeError
from pipelines.errors import PipelineError

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings


def check(config: ConfigOption = None) -> None:
    """Check configuration, disk, broker, weights, device and destinations; status 1 when something is wrong."""
    raise typer.Exit(1 if look_at_everything(settings_of(config)) else 0)


def look_at_everything(settings: Settings) -> int:
    """Print a line for everything that the node needs, and return how many things are wrong."""
    from dicom_node.node.probes import check_node
    from pipelines.device import describe_device
    from pipelines.registry import installed
    from pipelines.weights import verify

    table = Table(box=None, pad_edge=False)
    for heading in ("", "what", "result"):
        table.add_column(heading, overflow="fold")
    wrong = 0

    def look(read: Callable[[], str]) -> Callable[[], str]:
        def translated() -> str:
            try:
                return read()
            except PipelineError as error:
                raise NodeError(str(error)) from error

        return translated

    extra = [
        ("pipelines", look(lambda: ", ".join(installed()))),
        ("weights", look(verify)),
        ("device", look(lambda: describe_device(settings.worker.device))),
    ]
    if settings.cohort.file:
        extra.append(("[cohort]", look(lambda: _cohort(settings))))
    for verdict in check_node(settings, extra):
        wrong += not verdict.ok
        style = "green" if verdict.ok else "red"
        sign = Text("ok" if verdict.ok else "WRONG", style)
        table.add_row(sign, verdict.what, verdict.result)
    out.print(table)
    return wrong


def _cohort(settings: Settings) -> str:
    """Return how many patients there are to compare lesion volumes with; raises where the file can't be used."""
    from dicom_node.cohort.table import pipeline_digest, read_cohort
    from pipelines.registry import installed

    found = read_cohort(settings.cohort.file)
    info = settings.configured(installed())["flair"]
    digest = pipeline_digest(info.name, info.weights_digest, info.default_settings)
    return found.summary(digest) if found is not None else "none"
