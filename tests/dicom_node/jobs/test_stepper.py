"""The thread that steps, sleeps, and is woken."""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from dicom_node.jobs import stepper as module
from dicom_node.jobs.stepper import Stepper

WAIT_S = 10.0
LONG_S = 3600.0


class Bench:
    """A stepper whose steps are told of, and do what the test says."""

    def __init__(self) -> None:
        self.steps: queue.Queue[int] = queue.Queue()
        self.errors: list[Exception] = []
        self.done = 0
        self.do: Callable[[], float | None] = lambda: None
        self.pause_s = 0.0
        self.stepper = Stepper("bench", self.step, self.on_error)

    def step(self) -> float | None:
        self.done += 1
        self.steps.put(self.done)
        return self.do()

    def on_error(self, error: Exception) -> float:
        self.errors.append(error)
        return self.pause_s

    def wait(self, number: int) -> None:
        """Wait for the n-th step to begin."""
        assert self.steps.get(timeout=WAIT_S) == number

    @property
    def threads(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "bench"]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.stepper.stop(WAIT_S)
    assert bench.threads == []


def test_it_steps_at_once_and_again_after_the_time_that_the_step_returned(bench: Bench) -> None:
    bench.do = lambda: 0.0 if bench.done < 3 else None
    bench.stepper.start()
    for number in (1, 2, 3):
        bench.wait(number)
    assert [thread.daemon for thread in bench.threads] == [True]


@pytest.mark.parametrize("sleep_s", [None, LONG_S, math.inf])
def test_it_sleeps_until_it_is_woken(bench: Bench, sleep_s: float | None) -> None:
    bench.do = lambda: sleep_s
    bench.stepper.start()
    bench.wait(1)
    bench.stepper.wake()
    bench.wait(2)
    assert bench.errors == []


def test_wake_during_a_step_leads_to_one_more(bench: Bench) -> None:
    go_on = threading.Event()
    bench.do = lambda: None if go_on.wait(WAIT_S) else 0.0
    bench.stepper.start()
    bench.wait(1)
    for _ in range(3):
        bench.stepper.wake()  # the step has looked already: what is new now is not seen by it
    go_on.set()
    bench.wait(2)
    bench.stepper.stop()
    assert bench.done == 2


def test_stop_ends_the_sleep(bench: Bench) -> None:
    bench.do = lambda: LONG_S
    bench.stepper.start()
    bench.wait(1)
    assert not bench.stepper.stopping
    bench.stepper.stop()
    assert bench.stepper.stopping
    assert bench.threads == []
    assert bench.done == 1


def test_stop_waits_for_the_step_at_work_and_no_other_begins(bench: Bench) -> None:
    go_on = threading.Event()
    bench.do = lambda: 0.0 if go_on.wait(WAIT_S) else None
    bench.stepper.start()
    bench.wait(1)
    bench.stepper.wake()
    bench.stepper.stop(0.0)  # tells it only
    assert bench.stepper.stopping
    assert len(bench.threads) == 1
    go_on.set()
    bench.stepper.stop()
    assert bench.threads == []
    assert bench.done == 1


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("x"), MemoryError()])
def test_step_that_raises_is_told_and_the_next_one_comes(bench: Bench, error: Exception) -> None:
    def stumble_once() -> float | None:
        if bench.done == 1:
            raise error
        return None

    bench.do = stumble_once
    bench.stepper.start()
    bench.wait(1)
    bench.wait(2)
    assert bench.errors == [error]


def test_pause_after_an_error_ends_when_it_is_woken(bench: Bench) -> None:
    def stumble() -> float | None:
        raise OSError(5, "Input/output error")

    bench.do, bench.pause_s = stumble, LONG_S
    bench.stepper.start()
    bench.wait(1)
    bench.stepper.wake()
    bench.wait(2)


def test_error_that_can_not_be_told_does_not_end_the_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    stepped: queue.Queue[str] = queue.Queue()

    def stumble() -> float:
        stepped.put("stepped")
        raise OSError(5, "Input/output error")

    def stumble_too(error: Exception) -> float:
        raise OSError(28, "No space left on device") from error

    stepper = Stepper("bench", stumble, stumble_too)
    with caplog.at_level(logging.ERROR):
        stepper.start()
        for _ in range(2):
            stepped.get(timeout=WAIT_S)
        stepper.stop()
    assert "bench: an error could not be told" in caplog.text
    assert "No space left on device" in caplog.text
    assert "Input/output error" in caplog.text


def test_stop_may_come_twice_and_before_the_start(bench: Bench) -> None:
    bench.stepper.stop()
    bench.stepper.start()
    bench.wait(1)
    bench.stepper.stop()
    bench.stepper.stop()
    assert bench.done == 1


def test_stop_within_a_step_makes_it_the_last(bench: Bench) -> None:
    def end() -> float | None:
        bench.stepper.stop()
        return 0.0

    bench.do = end
    bench.stepper.start()
    bench.wait(1)
    bench.stepper.stop()
    assert bench.threads == []
    assert bench.done == 1


def test_it_can_be_started_again_and_not_twice_at_a_time(bench: Bench) -> None:
    bench.stepper.start()
    bench.wait(1)
    with pytest.raises(RuntimeError, match="bench: the thread is running"):
        bench.stepper.start()
    bench.stepper.stop()
    bench.stepper.start()
    bench.wait(2)
    assert not bench.stepper.stopping
