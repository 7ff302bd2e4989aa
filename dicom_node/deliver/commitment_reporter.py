"""Answers to those who ask whether the node keeps their images, on associations that the node opens.

A request lies in the data folder until it is answered, so that a restart forgets none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import DEFAULT_TIMEOUTS, Timeouts, UnreachableError
from dicom_node.deliver.backoff import Backoff
from dicom_node.deliver.commitment_scu import report_to
from dicom_node.errors import DeliveryError, NodeError, SpoolError
from dicom_node.jobs.stepper import Stepper
from dicom_node.receive.commitment_provider import CommitmentProvider
from dicom_node.receive.commitment_scp import FOLDER, read_request
from dicom_node.spool.spool import Spool
from dicom_node.standard.commitment import Request
from dicom_node.worklog.writer import Worklog

TRIES = 12
"""How often an answer is brought, over about an hour; who was away for longer asks again."""

DEFAULT_BACKOFF = Backoff()
Reported = Callable[[str, Sequence[str], Mapping[str, int]], bool]


@dataclass(frozen=True)
class _Tried:
    """Count of the tries to bring an answer, and the time of the next one on the monotonic clock."""

    count: int = 0
    again_at: float = 0.0


NEVER = _Tried()


class CommitmentReporter:
    """Reporter of commitment: answers those who ask for it, and takes the reports on our own requests.

    Parameters
    ----------
    spool : Spool
        Where images and requests lie.
    keep_s : float
        For how long images that were committed to are kept; 0: for ever.
    askers : iterable of Address
        Those whose address is known.
    reported : callable
        Takes the report of a destination, see :meth:`Outbox.commitment_reported`.
    """

    def __init__(
        self,
        spool: Spool,
        keep_s: float,
        askers: Iterable[Address],
        *,
        ae_title: str,
        worklog: Worklog,
        reported: Reported,
        backoff: Backoff = DEFAULT_BACKOFF,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._folder = spool.root / FOLDER
        self._provider = CommitmentProvider(spool, keep_s)
        self._askers = {address.ae_title.strip(): address for address in askers}
        self._ae_title, self._worklog, self._reported = ae_title, worklog, reported
        self._backoff, self._timeouts = backoff, timeouts
        self._stepper = Stepper("commitments", self._answer_all, self._stumble)
        self._tried: dict[str, _Tried] = {}  # by the name of the request's file

    @property
    def known(self) -> frozenset[str]:
        """AE titles of those who are answered on an association of ours."""
        return frozenset(self._askers)

    def start(self) -> None:
        """Begin to answer, first what an earlier process left."""
        self._stepper.start()

    def stop(self) -> None:
        """End after the answer that is on its way."""
        self._stepper.stop(self._timeouts.connect_s)

    # What the receiver tells (dicom_node.receive.events.ReceiveEvents)

    def asked(self, name: str) -> None:
        """Answer the request in a file of that name."""
        del name  # all that lie there are answered
        self._stepper.wake()

    def given(self, calling_ae: str, given: int, refused: int) -> None:
        """Write what somebody was told."""
        self._worklog.write(
            "commitment-given",
            calling_ae=calling_ae,
            images=given + refused,
            objects=given,
            reason=f"{refused} are not here" if refused else None,
        )

    def reported(
        self, calling_ae: str, transaction_uid: str, committed: Sequence[str], failed: Mapping[str, int]
    ) -> None:
        """Pass a report on to the deliveries."""
        if not self._reported(transaction_uid, committed, failed):
            self._worklog.write(
                "warning",
                name="storage commitment",
                reason=f"{calling_ae} reports on a request that was never made, or is forgotten",
            )

    def _stumble(self, error: Exception) -> float:
        self._warn(error)
        return self._backoff.wait_s(4)

    def _answer_all(self) -> float | None:
        """Answer what is due, and return how long there is nothing to do; None: until somebody asks."""
        silent: dict[str, UnreachableError] = {}
        for path in self._requests():
            tried = self._tried.get(path.name, NEVER)
            if self._stepper.stopping or time.monotonic() < tried.again_at:
                continue
            try:
                self._answer(path, tried.count + 1, silent)
            except Exception as error:  # noqa: BLE001 - one bad request must not keep the others waiting
                self._warn(error)
                self._tried[path.name] = _Tried(tried.count, time.monotonic() + self._backoff.cap_s)
        next_at = min((tried.again_at for tried in self._tried.values()), default=None)
        return None if next_at is None else max(0.0, next_at - time.monotonic())

    def _requests(self) -> list[Path]:
        """Return the files of all requests that are not answered; SpoolError where they can't be listed."""
        try:
            return sorted(path for path in self._folder.iterdir() if path.suffix == ".json")
        except FileNotFoundError:  # nobody has asked yet
            return []
        except OSError as error:
            raise SpoolError(
                f"{self._folder}: can't be listed: {error.strerror}. "
                "Requests for storage commitment wait in it: see whether this user may read it"
            ) from error

    def _warn(self, error: Exception) -> None:
        """Write an error into the worklog: our own texts name no patient, others might."""
        reason = str(error) if isinstance(error, NodeError) else type(error).__name__
        self._worklog.write("warning", name="storage commitment", reason=reason)

    def _answer(self, path: Path, count: int, silent: dict[str, UnreachableError]) -> None:
        """Answer one request for the n-th time, unless its asker was found `silent` a moment ago."""
        try:
            asker, request = read_request(path)
        except ValueError as error:
            self._worklog.write("warning", name="storage commitment", reason=str(error))
            self._forget(path)
            return
        try:
            if asker in silent:
                raise silent[asker]
            self._bring(asker, request)
        except DeliveryError as error:
            if isinstance(error, UnreachableError):
                silent[asker] = error
            if count < TRIES and asker in self._askers:
                self._tried[path.name] = _Tried(count, time.monotonic() + self._backoff.wait_s(count))
                return
            self._worklog.write(
                "commitment-unanswered", calling_ae=asker, images=len(request.references), reason=str(error)
            )
        self._forget(path)

    def _forget(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._tried.pop(path.name, None)

    def _bring(self, asker: str, request: Request) -> None:
        address = self._askers.get(asker)
        if address is None:  # it was a destination when it asked
            raise DeliveryError(f"{asker} is no [[destination]] any more")
        report = self._provider.commit(request)
        report_to(address, self._ae_title, report, timeouts=self._timeouts)
        self.given(asker, len(report.committed), len(report.failed))
