"""A training without a terminal tells each minute how far it is and how long it will take."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from pipelines.training.progress_log import Progress, duration, logged_progress


@dataclass
class Part:
    name: str = "crops"
    steps: int = 200


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_line_tells_steps_time_left_and_losses() -> None:
    clock, part = Clock(), Part()
    progress = Progress(clock)
    clock.now = 100.0
    assert progress.line() == "2 min gone: cases are being made ready or scored"
    progress.watch(part, 101, {"mask": 0.25})
    assert progress.line() == "crops 101/200, time left not known yet: mask 0.250"
    clock.now = 160.0
    progress.watch(part, 120, {"mask": 0.125})
    # 19 steps in 60 s, 80 to come
    assert progress.line() == "crops 120/200, 4 min left of this part: mask 0.125"


def test_next_part_begins_its_time_anew() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.watch(Part(), 200, {})
    clock.now = 50.0
    volumes = Part("volumes", 10)
    progress.watch(volumes, 1, {})
    clock.now = 60.0
    progress.watch(volumes, 2, {})
    assert progress.line() == "volumes 2/10, 80 s left of this part"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (89, "89 s"), (600, "10 min"), (5400, "1 h 30 min"), (11100, "3 h 05 min")],
)
def test_duration_is_told_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_come_between_steps_too_and_end_with_the_training() -> None:
    told, twice = [], threading.Event()

    def report(line: str) -> None:
        told.append(line)
        if len(told) == 2:
            twice.set()

    with logged_progress(report, every_s=0.01) as watch:
        watch(Part(), 1, {})
        assert twice.wait(30)
    count = len(told)
    assert told[-1].startswith("crops 1/200")
    assert not [thread for thread in threading.enumerate() if thread.name == "training progress"]
    assert len(told) == count
