"""Stages around every pipeline's own work: judge the input, time the stages, refuse with a reason."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from pipelines.types import Findings, Progress


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check: suitable unless there is a reason."""

    reason: str = ""
    warnings: tuple[str, ...] = ()


@dataclass
class Run:
    """The stages of one analysis as they end, and what its checks said."""

    progress: Progress
    timings_s: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    reason: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside and report it."""
        start = time.perf_counter()
        yield
        self.timings_s[name] = time.perf_counter() - start
        self.progress(name, self.timings_s[name])

    def suits(self, *verdicts: Verdict) -> bool:
        """Keep the warnings and the first reason; return whether there is none."""
        for verdict in verdicts:
            self.warnings.extend(verdict.warnings)
            if verdict.reason:
                self.reason = verdict.reason
                return False
        return True

    def refusal(self) -> Findings:
        """Return the answer to an input that does not suit."""
        return Findings("unsuitable", self.reason, warnings=tuple(self.warnings), timings_s=self.timings_s)


def attribute(attributes: Mapping[str, object], keyword: str) -> float | None:
    """Return an attribute as a number; None when absent, not a number, or 0, which vendors write for none."""
    value = attributes.get(keyword)
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    if not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if np.isfinite(number) and number != 0.0 else None
