"""Progress of a training in a log: a line each minute, with the time that is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.training.trainable import Part, Report, Watch

MINUTE_S = 60.0


class Progress:
    """Progress of the part of a training that runs, from what the training tells of each step.

    Parameters
    ----------
    clock : callable
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._part: Part | None = None
        self._first, self._first_at = 0, 0.0
        self._step, self._figures = 0, ""

    def watch(self, part: Part, step: int, figures: dict[str, float]) -> None:
        """Take a step that is done."""
        if part is not self._part:
            self._part, self._first, self._first_at = part, step, self._clock()
        self._step = step
        self._figures = " ".join(f"{name} {value:.3f}" for name, value in figures.items())

    def line(self) -> str:
        """Return how far it is and how long it will still take."""
        part, now = self._part, self._clock()
        if part is None:
            return f"{duration(now - self._began)} gone: cases are being made ready or scored"
        line = f"{part.name} {self._step}/{part.steps}, {self._left(part, now)}"
        return f"{line}: {self._figures}" if self._figures else line

    def _left(self, part: Part, now: float) -> str:
        done = self._step - self._first
        if not done:
            return "time left not known yet"
        return f"{duration((now - self._first_at) / done * (part.steps - self._step))} left of this part"


def duration(seconds: float) -> str:
    """Return a time in words: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def logged_progress(report: Report, every_s: float = MINUTE_S) -> Iterator[Watch]:
    """Give what takes the steps of a training, and report a line each minute from a thread of its own, also between steps."""
    progress, ended = Progress(), threading.Event()

    def tell() -> None:
        while not ended.wait(every_s):
            report(progress.line())

    thread = threading.Thread(target=tell, name="training progress", daemon=True)
    thread.start()
    try:
        yield progress.watch
    finally:
        ended.set()
        thread.join()
