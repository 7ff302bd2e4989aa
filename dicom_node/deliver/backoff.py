"""Waits before a delivery is tried again, longer after each failure."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Waits between tries of sending and of looking; all of them end early when somebody wakes the outbox.

    Attributes
    ----------
    first_s, cap_s : float
        The wait after the first failed try; it doubles with each up to the cap.
    jitter : float
        Fraction by which a wait may be longer, so that nodes do not come back all at once.
    look_first_s, look_cap_s : float
        The same for looking whether a stored object shows up: an archive may file it later.
    resend_after_s : float
        An object that does not show up for so long is sent again, ...
    sends : int
        ... until it was sent so many times.
    uncertain_tries : int
        How often a failure is tried again that may be for good.
    find_tries : int
        How often a destination is asked that breaks off: some answer so to callers whose queries they forbid.
    answer_first_s, answer_cap_s : float
        How long an answer to a request for storage commitment may take before it is asked for again; it
        doubles up to the cap, since archives may commit only once an object is on their tape.
    requests : int
        How often commitment to an object is asked for; without an answer to the last, it has no proof.
    """

    first_s: float = 5.0
    cap_s: float = 600.0
    jitter: float = 0.1
    look_first_s: float = 2.0
    look_cap_s: float = 60.0
    resend_after_s: float = 300.0
    sends: int = 3
    uncertain_tries: int = 8
    find_tries: int = 3
    answer_first_s: float = 60.0
    answer_cap_s: float = 3600.0
    requests: int = 30

    def wait_s(self, failures: int) -> float:
        """Wait after so many failures in a row (1 or more)."""
        wait_s = min(self.cap_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return wait_s * (1 + self.jitter * random.random())

    def answer_s(self, requests: int) -> float:
        """Wait for the answer to the n-th request for commitment (1 or more)."""
        return min(self.answer_cap_s, self.answer_first_s * 2.0 ** min(requests - 1, 30))

    def look_again_s(self, since_sent_s: float) -> float:
        """Wait before looking again for an object that was sent so long ago: half as long again."""
        return min(self.look_cap_s, max(self.look_first_s, since_sent_s / 2))
