"""Proof by storage commitment, against PACSs that answer on the same association, on their own, late, or never."""

import threading
import time
from dataclasses import replace

import pytest
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import SegmentationStorage

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import Timeouts, UnreachableError
from dicom_node.deliver.commitment_scu import CommitmentRefusedError, ask, report_to
from dicom_node.errors import DeliveryError
from dicom_node.jobs.why import why
from dicom_node.receive.association import Association
from dicom_node.receive.commitment_scp import CommitmentPolicy, CommitmentService
from dicom_node.receive.events import CommitmentReported
from dicom_node.standard.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    Reference,
    Report,
    Request,
    decode_request,
    encode_report,
)
from tests.dicom_node.deliver.conftest import NATIVE, Pacs
from tests.dicom_node.deliver.test_outbox import FAST, JOB, Bench

CALM = Timeouts(20, 20, 20, report_s=20)

QUICK_ANSWERS = replace(FAST, answer_first_s=0.1, answer_cap_s=0.2, requests=4)
SR = Reference("1.2.840.10008.5.1.4.1.1.88.11", "1.2.3.4")


class Committing(Pacs):
    """A PACS that offers storage commitment.

    Attributes
    ----------
    answers : "same", "new" or "never"
        On which association it reports.
    judge : callable
        Gives the failure reason of an instance, 0 for none, from its UID and how often it was asked for.
    action_status : int
        What it answers to the request itself.
    """

    def __init__(self, answers="same"):
        super().__init__(find=False)
        self.answers = answers
        self.judge = lambda uid, nth: 0 if uid in self.held else 0x0112
        self.action_status = 0
        self.asked = []
        self.acknowledged = []
        self.report_port = 0
        self.ae.add_supported_context(PUSH_MODEL, NATIVE)

    def start(self):
        super().start()
        self.server.bind(evt.EVT_N_ACTION, self._act)
        return self

    def report(self, request):
        """The report on a request, as the objects are judged now."""
        with self.lock:
            times = [uid for one in self.asked for uid in one.references]
            reasons = {one: self.judge(one.sop_instance_uid, times.count(one)) for one in request.references}
        committed = tuple(one for one, reason in reasons.items() if not reason)
        failed = {one: reason for one, reason in reasons.items() if reason}
        return Report(request.transaction_uid, committed, failed)

    def send_report(self, report, role=True):
        """Report on an association of our own, as the provider."""
        ae = AE(self.ae.ae_title)
        roles = [build_role(PUSH_MODEL, scp_role=True)] if role else []
        contexts = [build_context(PUSH_MODEL, NATIVE)]
        assoc = ae.associate("127.0.0.1", self.report_port, contexts, ae_title="NODE", ext_neg=roles)
        assert assoc.is_established
        connection = assoc.dul.socket.socket
        status = self._send(assoc, report)
        assoc.release()
        connection.close()  # pynetdicom leaves it open when the peer has closed first
        return status

    def _send(self, assoc, report):
        status, _ = assoc.send_n_event_report(
            encode_report(report), report.event_type, PUSH_MODEL, PUSH_MODEL_INSTANCE
        )
        with self.lock:
            self.acknowledged.append(status.get("Status"))
            self.lock.notify_all()
        return status.get("Status")

    def _act(self, event):
        assert event.action_type == 1
        assert event.request.RequestedSOPInstanceUID == PUSH_MODEL_INSTANCE
        request = decode_request(event.action_information)
        with self.lock:
            self.asked.append(request)
            self.lock.notify_all()
        if self.action_status == 0 and self.answers != "never":
            threading.Thread(target=self._report_later, args=(event.assoc, request), daemon=True).start()
        return self.action_status, None

    def _report_later(self, assoc, request):
        time.sleep(0.05)  # after the response
        if self.answers == "same":
            if assoc.is_established:
                self._send(assoc, self.report(request))
        else:
            self.send_report(self.report(request))


@pytest.fixture
def committing():
    made = []

    def make(*arguments):
        made.append(Committing(*arguments).start())
        return made[-1]

    yield make
    for pacs in made:
        pacs.stop()


@pytest.fixture
def bench(tmp_path, make_object, dataset_bytes):
    """Waits long for what must come; see :func:`impatient`."""
    bench = Bench(tmp_path / "data", make_object, dataset_bytes, CALM)
    yield bench
    bench.close()


@pytest.fixture
def impatient(bench):
    """Does not wait for a report on the same association, where none comes."""
    bench.timeouts = replace(bench.timeouts, report_s=0.01)
    return bench


@pytest.fixture
def listening():
    """A node's port, with its own handler of reports."""
    servers = []

    def listen(outbox, pacs):
        def tell(told):
            assert isinstance(told, CommitmentReported)
            outbox.commitment_reported(told.transaction_uid, told.committed, told.failed)

        service = CommitmentService(outbox._spool, CommitmentPolicy())
        caller = Association("0123456789ab", "PACS", "127.0.0.1", "NODE")
        ae = AE("NODE")
        ae.add_supported_context(PUSH_MODEL, NATIVE, scu_role=True, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, lambda event: service.reported(event, caller, tell))]
        servers.append(ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers))
        pacs.report_port = servers[-1].socket.getsockname()[1]

    yield listen
    for server in servers:
        server.shutdown()


def states(outbox):
    return {str(row.state) for row in outbox._states.rows(JOB)}


def test_report_on_the_same_association_confirms(bench, committing):
    pacs = committing("same")
    job, manifest = bench.finished_job(["seg", "sr", "text-sr"])
    outbox = bench.outbox(pacs, confirm="commitment", backoff=QUICK_ANSWERS)
    outbox.add(job, manifest)
    bench.wait_settled((JOB, True))
    assert states(outbox) == {"confirmed"}
    assert len(pacs.asked) == 1
    wanted = {(item.sop_class_uid, item.sop_instance_uid) for item in manifest.objects}
    assert set(pacs.asked[0].references) == wanted
    assert pacs.acknowledged == [0]
    assert {receipt["state"] for receipt in bench.receipts()} == {"sent", "confirmed"}
    assert bench.events("confirmed")[0]["objects"] == 3


@pytest.mark.parametrize("role", [True, False])
def test_report_on_an_association_that_the_pacs_opens_confirms(impatient, committing, listening, role):
    pacs = committing("never")
    outbox = impatient.outbox(pacs, confirm="commitment")
    listening(outbox, pacs)
    outbox.add(*impatient.finished_job(["seg", "sr"]))
    pacs.wait(lambda: pacs.asked)
    assert impatient.settled == []
    assert pacs.send_report(pacs.report(pacs.asked[0]), role=role) == 0
    impatient.wait_settled((JOB, True))
    assert states(outbox) == {"confirmed"}


def test_report_after_a_restart_still_counts(impatient, committing, listening):
    pacs = committing("never")
    before = impatient.outbox(pacs, confirm="commitment")
    job, manifest = impatient.finished_job(["seg", "sr"])
    before.add(job, manifest)
    pacs.wait(lambda: pacs.asked)
    before.stop()
    outbox = impatient.outbox(pacs, confirm="commitment", start=False)
    listening(outbox, pacs)
    outbox.add(job, manifest)
    pacs.send_report(pacs.report(pacs.asked[0]))
    outbox.start()
    impatient.wait_settled((JOB, True))
    assert states(outbox) == {"confirmed"}
    assert len(pacs.asked) == 1


def test_report_that_was_taken_and_not_yet_followed_is_followed_after_a_restart(impatient, committing):
    pacs = committing("never")
    before = impatient.outbox(pacs, confirm="commitment")
    job, manifest = impatient.finished_job(["seg"])
    before.add(job, manifest)
    pacs.wait(lambda: pacs.asked)
    before.stop()
    request = pacs.asked[0]
    assert before.commitment_reported(request.transaction_uid, [request.references[0].sop_instance_uid], {})
    outbox = impatient.outbox(pacs, confirm="commitment", start=False)
    outbox.add(job, manifest)
    outbox.start()
    impatient.wait_settled((JOB, True))
    assert states(outbox) == {"confirmed"}


def test_answer_that_does_not_come_is_asked_for_again_and_an_answer_to_the_first_request_counts(
    impatient, committing, listening
):
    pacs = committing("never")
    outbox = impatient.outbox(pacs, confirm="commitment", backoff=replace(QUICK_ANSWERS, requests=1000))
    listening(outbox, pacs)
    outbox.add(*impatient.finished_job(["seg", "sr"]))
    pacs.wait(lambda: len(pacs.asked) > 2)
    assert len({request.transaction_uid for request in pacs.asked}) == len(pacs.asked)
    pacs.send_report(pacs.report(pacs.asked[0]))
    impatient.wait_settled((JOB, True))
    assert states(outbox) == {"confirmed"}


@pytest.mark.slow
def test_pacs_that_never_answers_leaves_its_status_and_no_proof(impatient, committing):
    pacs = committing("never")
    outbox = impatient.outbox(pacs, confirm="commitment", backoff=QUICK_ANSWERS)
    outbox.add(*impatient.finished_job(["seg"]))
    impatient.wait_settled((JOB, True))
    assert states(outbox) == {"sent"}
    assert len(pacs.asked) == 4
    assert (
        "it gave no answer to 4 requests for commitment: no proof"
        in impatient.events("unproven")[0]["reason"]
    )
    lines = [line for line, _ in why(impatient.spool.root, JOB)]
    assert any(line.startswith("  storage commitment asked of pacs0: 4 x, last 20") for line in lines)


def test_object_that_the_pacs_has_not_kept_is_sent_again(bench, committing):
    pacs = committing("same")
    pacs.judge = lambda uid, nth: 0x0112 if nth == 1 and uid == lost else 0
    job, manifest = bench.finished_job(["seg", "sr"])
    lost = manifest.objects[0].sop_instance_uid
    outbox = bench.outbox(pacs, confirm="commitment", backoff=QUICK_ANSWERS)
    outbox.add(job, manifest)
    bench.wait_settled((JOB, True))
    assert states(outbox) == {"confirmed"}
    assert [uid for uid, _, _ in pacs.received].count(lost) == 2
    assert len({sha256 for uid, sha256, _ in pacs.received if uid == lost}) == 1
    assert len(pacs.received) == 3
    assert [len(request.references) for request in pacs.asked] == [2, 1]
    assert "0112 no such SOP instance" in bench.events("missing")[0]["reason"]


def test_object_that_is_never_kept_is_given_up_by_name(bench, committing):
    pacs = committing("same")
    pacs.judge = lambda uid, nth: 0x0112
    outbox = bench.outbox(pacs, confirm="commitment", backoff=QUICK_ANSWERS)
    outbox.add(*bench.finished_job(["seg"]))
    bench.wait_settled((JOB, False))
    (row,) = outbox._states.rows(JOB)
    assert (row.state, row.reason) == ("failed", "no commitment: 0112 no such SOP instance")
    assert len(pacs.received) == FAST.sends


@pytest.mark.parametrize("reason", [0x0119, 0x0122])
def test_reason_that_no_sending_mends_fails_at_once(bench, committing, reason):
    pacs = committing("same")
    job, manifest = bench.finished_job(["seg", "sr"])
    seg = next(item.sop_instance_uid for item in manifest.objects if item.role == "seg")
    pacs.judge = lambda uid, nth: reason if uid == seg else 0
    outbox = bench.outbox(pacs, confirm="commitment", backoff=QUICK_ANSWERS)
    outbox.add(job, manifest)
    bench.wait_settled((JOB, False))
    assert {row.role: str(row.state) for row in outbox._states.rows(JOB)} == {
        "seg": "failed",
        "sr": "confirmed",
    }
    assert len(pacs.received) == 2
    assert f"{reason:04X}" in bench.events("missing")[0]["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("reason", [0x0110, 0x0131, 0x0213])
def test_reason_of_the_moment_is_asked_about_again(bench, committing, reason):
    pacs = committing("same")
    pacs.judge = lambda uid, nth: reason if nth < 3 else 0
    outbox = bench.outbox(pacs, confirm="commitment", backoff=QUICK_ANSWERS)
    outbox.add(*bench.finished_job(["seg"]))
    bench.wait_settled((JOB, True))
    assert states(outbox) == {"confirmed"}
    assert len(pacs.received) == 1
    assert len(pacs.asked) == 3


def test_pacs_without_commitment_counts_as_delivered_without_proof(bench, make_pacs):
    outbox = bench.outbox(make_pacs(find=False), confirm="commitment")
    outbox.add(*bench.finished_job(["seg"]))
    bench.wait_settled((JOB, True))
    assert states(outbox) == {"sent"}
    assert "it offers no storage commitment: no proof" in bench.events("unproven")[0]["reason"]


@pytest.mark.slow
def test_request_that_is_not_taken_now_is_made_again(bench, committing):
    pacs = committing("same")
    pacs.action_status = 0x0213
    outbox = bench.outbox(pacs, confirm="commitment", backoff=replace(QUICK_ANSWERS, requests=1000))
    outbox.add(*bench.finished_job(["seg"]))
    pacs.wait(lambda: len(pacs.asked) > 1)
    pacs.action_status = 0
    bench.wait_settled((JOB, True))
    assert states(outbox) == {"confirmed"}


def test_report_on_what_nobody_asked_changes_nothing(impatient, committing):
    pacs = committing("never")
    outbox = impatient.outbox(pacs, confirm="commitment")
    job, manifest = impatient.finished_job(["seg"])
    outbox.add(job, manifest)
    pacs.wait(lambda: pacs.asked)
    assert not outbox.commitment_reported("1.2.3", [manifest.objects[0].sop_instance_uid], {})
    assert outbox.commitment_reported(pacs.asked[0].transaction_uid, ["9.9.9"], {"9.9.8": 0x0112})
    assert "confirmed" not in states(outbox)


def test_dead_pacs_is_tried_again(bench, committing):
    pacs = committing("same")
    job, manifest = bench.finished_job(["seg"])
    pacs.before_store = lambda event: setattr(pacs, "action_status", 0)
    outbox = bench.outbox(pacs, confirm="commitment", backoff=QUICK_ANSWERS)
    pacs.stop()
    outbox.add(job, manifest)
    bench.wait_event("delivery-retry")
    pacs.start()
    outbox.wake()
    bench.wait_settled((JOB, True))
    assert states(outbox) == {"confirmed"}


def test_pacs_that_is_away_after_it_took_the_objects_has_not_been_asked(bench, committing, monkeypatch):
    pacs = committing("same")
    away = iter(range(10))  # more often than commitment is asked for

    def ask_in_vain(address, *arguments, **options):
        if next(away, None) is not None:
            raise UnreachableError(f"{address}: away")
        ask(address, *arguments, **options)

    monkeypatch.setattr("dicom_node.deliver.commitment_prover.ask", ask_in_vain)
    job, manifest = bench.finished_job(["seg"])
    bench.outbox(pacs, confirm="commitment", backoff=QUICK_ANSWERS).add(job, manifest)
    bench.wait_settled((JOB, True))
    assert bench.events("unproven") == []
    assert len(pacs.asked) == 1
    assert "asked of pacs0: 1 x" in "\n".join(line for line, _ in why(bench.spool.root, JOB))


@pytest.mark.parametrize(
    ("status", "error"), [(0x0124, CommitmentRefusedError), (0x0122, CommitmentRefusedError)]
)
def test_status_of_the_request_is_said(committing, status, error):
    pacs = committing()
    pacs.action_status = status
    with pytest.raises(error, match=f"answered the request for commitment with {status:04X}"):
        ask(pacs.address, "NODE", Request("1.2", (SR,)), print, heard=threading.Event(), timeouts=CALM)


def test_nobody_there_is_said(closed_port):
    address = Address("PACS", "127.0.0.1", closed_port)
    with pytest.raises(UnreachableError):
        ask(address, "NODE", Request("1.2", (SR,)), print, heard=threading.Event(), timeouts=CALM)
    with pytest.raises(UnreachableError):
        report_to(address, "NODE", Report("1.2", (SR,)), timeouts=CALM)


@pytest.mark.parametrize("status", [0, 0x0110])
def test_our_report_reaches_who_asked(status):
    reports = []

    def take(event):
        reports.append((event.event_type, event.event_information, event.assoc.requestor.role_selection))
        return status, None

    ae = AE("PACS")
    ae.add_supported_context(PUSH_MODEL, scu_role=False, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    address = Address("PACS", "127.0.0.1", server.socket.getsockname()[1])
    failed = Reference(str(SegmentationStorage), "1.2.3.5")
    report = Report("1.9", (SR,), {failed: 0x0112})
    if status:
        with pytest.raises(DeliveryError, match="answered the report on storage commitment with 0110"):
            report_to(address, "NODE", report, timeouts=CALM)
    else:
        report_to(address, "NODE", report, timeouts=CALM)
    server.shutdown()
    event_type, information, roles = reports[0]
    assert (roles[PUSH_MODEL].scu_role, roles[PUSH_MODEL].scp_role) == (False, True)
    assert event_type == 2
    assert information.TransactionUID == "1.9"
    assert information.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == SR.sop_instance_uid
    assert information.FailedSOPSequence[0].FailureReason == 0x0112
