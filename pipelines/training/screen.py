"""The screen of ``dicom-node models``: lines, and a bar that moves beneath them once there is progress.

Without a terminal, as in a log, a line each minute takes the place of the bar.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.training.progress_log import logged_progress
from pipelines.training.trainable import Part, Report, Watch

console = Console(highlight=False, soft_wrap=True)


def print_line(text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False)


@contextmanager
def progress_bar() -> Iterator[tuple[Report, Watch]]:
    """Give what prints a line above the bar, and what moves the bar, which is there from its first step on.

    Where the output is no terminal there is no bar: a line tells each minute how far it is, see `logged_progress`.
    """
    if not console.is_terminal:
        with logged_progress(print_line) as told:
            yield print_line, told
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, TextColumn("{task.fields[loss]}"), console=console)
    bar = progress.add_task("", total=None, visible=False, loss="")

    def watch(part: Part, step: int, figures: dict[str, float]) -> None:
        loss = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
        progress.update(bar, description=part.name, total=part.steps, completed=step, loss=loss, visible=True)
        progress.start()

    try:
        yield print_line, watch
    finally:
        progress.stop()
