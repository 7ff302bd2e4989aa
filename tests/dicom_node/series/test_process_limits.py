"""Limits of a process that parses strangers' files."""

from __future__ import annotations

import pytest

from dicom_node.series import process_limits


def test_processor_time_is_limited_within_the_limits_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(process_limits.resource, "getrlimit", lambda _: (10, 20))
    monkeypatch.setattr(process_limits.resource, "setrlimit", lambda *limit: set_to.append(limit))
    monkeypatch.setattr(process_limits.time, "process_time", lambda: 3.9)
    process_limits.limit_processor_time(5)
    assert set_to == [(process_limits.resource.RLIMIT_CPU, (9, 20))]
