"""Signs of life of runs, by the leases that their workers touch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.spool.run_folder import LEASE

LIMIT_GRACE_S = 60.0
"""A run this much over its limit is given up even if its lease is touched: nobody holds its limit."""


@dataclass
class _Lease:
    """A lease as it was last seen, on our own clock: those of other hosts may be wrong."""

    run: str
    began: float
    touched_ns: int | None
    seen: float


class Leases:
    """The leases of the runs at work.

    Parameters
    ----------
    lease_s : float
        How long a run may give no sign of life.
    time_limit_s : float
        The workers' hard limit for a run.
    clock : callable
        Seconds that never go back.
    """

    def __init__(self, lease_s: float, time_limit_s: float, clock: Callable[[], float]) -> None:
        self._lease_s = lease_s
        self._time_limit_s = time_limit_s
        self._clock = clock
        self._leases: dict[str, _Lease] = {}  # by job

    def silence(self, name: str, folder: Path) -> str:
        """Return why a run must be given up though nobody noted its death; "" while it seems alive."""
        now = self._clock()
        try:
            touched_ns: int | None = (folder / LEASE).stat().st_mtime_ns
        except FileNotFoundError:
            touched_ns = None
        job_id = name.partition(".")[0]
        lease = self._leases.get(job_id)
        if lease is None or lease.run != name:
            lease = self._leases[job_id] = _Lease(name, now, touched_ns, now)
        if lease.touched_ns != touched_ns:
            lease.touched_ns, lease.seen = touched_ns, now
        if now - lease.seen > self._lease_s:
            return f"no sign of life from the worker for {self._lease_s:g} s"
        if now - lease.began > self._time_limit_s + LIMIT_GRACE_S:
            return f"over the time limit of {self._time_limit_s:g} s"
        return ""

    def forget(self, job_id: str) -> None:
        """Note that a job has no run at work."""
        self._leases.pop(job_id, None)
