"""Keeps the worklog readable when somebody who is refused knocks again and again."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.receive.association import Association
from dicom_node.worklog.writer import Worklog

EVERY_S = 60.0
"""One line in this time for each address and reason."""

MOST = 1000
"""Addresses and reasons that are remembered; who has more to call from fills the log no faster than the oldest go."""

_CHANGING = re.compile(r"""'.*'|".*"|\d+""")
"""What differs between two reasons of one kind: titles that the caller chooses, and numbers."""


@dataclass
class _Told:
    at: float
    since: int = 0


class Refusals:
    """The lines of the worklog about callers that are refused or cut off: one a minute for each address and reason.

    Parameters
    ----------
    clock : callable
        Seconds that never go back.
    """

    def __init__(self, worklog: Worklog, clock: Callable[[], float] = time.monotonic) -> None:
        self._worklog = worklog
        self._clock = clock
        self._lock = threading.Lock()
        self._told: OrderedDict[tuple[str, str, str], _Told] = OrderedDict()

    def tell(self, event: str, association: Association, reason: str) -> None:
        """Write a line, or count what the next line about the address and this kind of reason will tell."""
        now, key = self._clock(), (event, association.address, _CHANGING.sub("", reason))
        with self._lock:
            told = self._told.get(key)
            if told is not None and now - told.at < EVERY_S:
                told.since += 1
                return
            self._told[key] = _Told(now)
            self._told.move_to_end(key)
            if len(self._told) > MOST:
                self._told.popitem(last=False)
        if told is not None and told.since:
            reason += f"; {told.since} more like it from there since the last line"
        self._worklog.write(
            event, calling_ae=association.calling_ae or "somebody", address=association.address, reason=reason
        )
