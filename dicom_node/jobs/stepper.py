"""Thread that does one step after the other, sleeps in between, and can be woken and stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

PAUSE_S = 5.0
"""Pause after a step whose error could not even be told."""


class Stepper:
    """Thread of its own for a step that is done again and again; no error of a step ends it.

    Parameters
    ----------
    name : str
        Of the thread.
    step : callable
        Does what is due, and returns for how many seconds there is nothing to do; None: until it is woken.
    on_error : callable
        Says what a step has raised, and returns the seconds until the next step.

    Notes
    -----
    Who wakes it while it steps has it step once more: what was new after the step had looked is not left until
    later. `step` and `on_error` run on the thread, without a lock.
    """

    def __init__(
        self, name: str, step: Callable[[], float | None], on_error: Callable[[Exception], float]
    ) -> None:
        self._name = name
        self._step = step
        self._on_error = on_error
        self._changed = threading.Condition()
        self._is_woken = False
        self._is_stopping = False
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        """Sign to a long step that it should end early: true from `stop` to the next `start`."""
        return self._is_stopping

    def start(self) -> None:
        """Begin with a step at once.

        Raises
        ------
        RuntimeError
            The thread is running.
        """
        with self._changed:
            if self._thread is not None and self._thread.is_alive():
                raise RuntimeError(f"{self._name}: the thread is running")
            self._is_stopping = False
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """End the thread after the step that it is in; may be called again, and within a step.

        Parameters
        ----------
        timeout_s : float, optional
            How long its end is waited for; 0 only tells it.
        """
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def wake(self) -> None:
        """Step now, or once more after the step that it is in."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def _work(self) -> None:
        while not self._is_stopping:
            with self._changed:
                self._is_woken = False
            sleep_s = self._step_guarded()
            with self._changed:
                self._changed.wait_for(lambda: self._is_woken or self._is_stopping, sleep_s)

    def _step_guarded(self) -> float | None:
        """Step, and return how long to sleep, whatever the step raises."""
        try:
            try:
                sleep_s = self._step()
            except Exception as error:  # noqa: BLE001 - the thread must outlive any fault: nothing else does its work
                sleep_s = self._on_error(error)
        except Exception:
            log.exception("%s: an error could not be told; again in %g s", self._name, PAUSE_S)
            return PAUSE_S
        return None if sleep_s is None else min(sleep_s, threading.TIMEOUT_MAX)
