"""The outbox against PACSs of our own: each test waits for what they have seen or for the settled job."""

import hashlib
import json
import ssl
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import trustme
from pynetdicom.sop_class import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.config.sections import Destination
from dicom_node.deliver.backoff import Backoff
from dicom_node.deliver.c_store import send_files
from dicom_node.deliver.commitment_requests import CommitmentRequests
from dicom_node.deliver.object_states import Change, ObjectStates, is_settled
from dicom_node.deliver.outbox import Outbox
from dicom_node.errors import ConfigError
from dicom_node.jobs.former_identity import delivered_objects
from dicom_node.jobs.schema import JobRow, SeriesRow
from dicom_node.jobs.states import JobState, ObjectState, SeriesState
from dicom_node.jobs.store import Store, series_identity
from dicom_node.results.manifest import Manifest, ResultObject
from dicom_node.spool.spool import Spool
from dicom_node.worklog.follow import records
from dicom_node.worklog.writer import Worklog

JOB = "ab12cd34" * 4
STUDY = "1.2.3"
FAST = Backoff(
    first_s=0.02, cap_s=0.05, look_first_s=0.02, look_cap_s=0.05, resend_after_s=0.2, uncertain_tries=3
)
PATIENT = Backoff(first_s=600, cap_s=600, look_first_s=600, look_cap_s=600)
CLASSES = {
    "heatmap": SecondaryCaptureImageStorage,
    "text-sr": BasicTextSRStorage,
    "sr": Comprehensive3DSRStorage,
    "seg": SegmentationStorage,
    "sr-enhanced": EnhancedSRStorage,
}


class Bench:
    """A spool with finished jobs, a database, a worklog, and outboxes over them."""

    def __init__(self, root: Path, make_object, dataset_bytes, timeouts):
        self.spool = Spool(root)
        self.store = Store(root / "state.sqlite")
        self.worklog = Worklog(root)
        self.make_object, self.dataset_bytes, self.timeouts = make_object, dataset_bytes, timeouts
        self.condition = threading.Condition()
        self.settled = []
        self.running = []

    def finished_job(
        self, roles=("heatmap", "heatmap", "text-sr", "sr", "seg", "sr-enhanced"), job_id=JOB, run=1
    ):
        series_uid = f"1.9.{int(job_id[:8], 16)}"
        folder = self.spool.results / job_id
        folder.mkdir()
        objects = []
        for number, role in enumerate(roles):
            path = folder / f"{role}-{number}.dcm"
            object_series = f"{STUDY}.{list(CLASSES).index(role)}"
            uid = self.make_object(path, CLASSES[role], study_uid=STUDY, series_uid=object_series)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            objects.append(
                ResultObject(role, path.name, str(CLASSES[role]), uid, object_series, STUDY, sha256)
            )
        manifest = Manifest(job_id, run, "flair", "findings", "", "2026-11-21T08:00:00+00:00", tuple(objects))
        manifest.write(folder)
        with self.store.session() as session:
            session.add(
                SeriesRow(
                    series_uid=series_uid,
                    id=series_identity(series_uid),
                    study_uid=STUDY,
                    state=SeriesState.ROUTED,
                    first_at=time.time() - 9,
                    last_at=time.time() - 7,
                )
            )
            session.flush()
            job = JobRow(
                id=job_id,
                series_uid=series_uid,
                pipeline="flair",
                state=JobState.DELIVERING,
                run=run,
                created_at=time.time(),
            )
            session.add(job)
        return job, manifest

    def outbox(self, *pacs, backoff=FAST, start=True, clock=time.time, **options):
        destinations = [
            Destination(
                name=f"pacs{number}",
                ae_title="PACS",
                host="127.0.0.1",
                port=item if isinstance(item, int) else item.port,
                **options,
            )
            for number, item in enumerate(pacs)
        ]
        outbox = Outbox(
            self.store,
            self.spool,
            destinations,
            ae_title="NODE",
            worklog=self.worklog,
            on_settled=self._settle,
            backoff=backoff,
            timeouts=self.timeouts,
            clock=clock,
        )
        self.running.append(outbox)
        if start:
            outbox.start()
        return outbox

    def unsettled(self):
        """Count the objects of the first job's current run that are not settled, by destination."""
        rows = ObjectStates(self.store, self.spool, time.time).rows(JOB)
        return dict(Counter(row.destination for row in rows if not is_settled(row)))

    def wait_settled(self, *expected, timeout_s=20):
        with self.condition:
            assert self.condition.wait_for(lambda: len(self.settled) >= len(expected), timeout_s), (
                self.lines()
            )
            assert self.settled == list(expected)

    def lines(self):
        return [f"{record.label.strip()}: {record.sentence}" for record in records(self.spool.root)]

    def events(self, name):
        return [record.figures for record in records(self.spool.root) if record.event == name]

    def wait_event(self, name):
        heard = threading.Event()
        self.worklog.subscribe(lambda record: heard.set() if record.event == name else None)
        if not self.events(name):
            assert heard.wait(20), self.lines()
        return self.events(name)

    def states(self, outbox):
        return {(row.role, row.destination): str(row.state) for row in outbox._states.rows(JOB)}

    def receipts(self, destination="pacs0", job_id=JOB):
        path = self.spool.results / job_id / "delivered" / f"{destination}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def close(self):
        for outbox in self.running:
            outbox.stop()
        self.worklog.close()
        self.store.close()

    def _settle(self, job_id, ok):
        with self.condition:
            self.settled.append((job_id, ok))
            self.condition.notify_all()


@pytest.fixture
def bench(tmp_path, make_object, dataset_bytes, quick):
    bench = Bench(tmp_path / "data", make_object, dataset_bytes, quick)
    yield bench
    bench.close()


def uids(manifest, *roles):
    return [item.sop_instance_uid for item in manifest.objects if item.role in roles]


def test_objects_arrive_in_order_with_the_bytes_on_disk_and_are_confirmed(bench, make_pacs):
    pacs = make_pacs()
    job, manifest = bench.finished_job()
    bench.outbox(pacs).add(job, manifest)
    bench.wait_settled((JOB, True))
    expected = [
        (
            item.sop_instance_uid,
            hashlib.sha256(bench.dataset_bytes(bench.spool.results / JOB / item.path)).hexdigest(),
        )
        for role in ("seg", "sr", "text-sr", "heatmap")
        for item in manifest.objects
        if item.role == role
    ]
    assert [(uid, sha) for uid, sha, _ in pacs.received] == expected
    assert pacs.calling == ["NODE"] * 3  # one association to ask whose study it is, one to send, one to ask
    assert pacs.studies_asked == [STUDY]
    assert {figures["objects"] for figures in bench.events("sent") + bench.events("confirmed")} == {5}
    [delivered] = bench.events("delivered")
    assert (delivered["destination"], delivered["objects"]) == ("pacs0", 5)
    assert 7 <= delivered["seconds"] < 60
    assert [receipt["state"] for receipt in bench.receipts()] == ["sent"] * 5 + ["confirmed"] * 5


def test_dead_destination_delays_no_other(bench, make_pacs, closed_port):
    pacs = make_pacs()
    job, manifest = bench.finished_job()
    outbox = bench.outbox(closed_port, pacs, backoff=PATIENT)
    outbox.add(job, manifest)
    [delivered] = bench.wait_event("delivered")
    assert delivered["destination"] == "pacs1"
    [retry] = bench.wait_event("delivery-retry")
    assert retry["destination"] == "pacs0"
    assert "connection refused" in retry["reason"]
    assert 600 <= retry["wait_s"] <= 660
    assert bench.settled == []
    assert bench.unsettled() == {"pacs0": 5}


@pytest.mark.slow
def test_destination_that_comes_back_gets_everything_after_wake(bench, make_pacs, closed_port):
    live, late = make_pacs(), make_pacs()
    late.stop()
    job, manifest = bench.finished_job()
    outbox = bench.outbox(live, late, backoff=PATIENT)
    outbox.add(job, manifest)
    bench.wait_event("delivery-retry")
    late.start()
    outbox.wake()
    bench.wait_settled((JOB, True))
    assert len(late.received) == 5


@pytest.mark.slow
def test_silent_host_is_named_and_tried_again(bench, silent_port):
    job, manifest = bench.finished_job(["text-sr"])
    bench.outbox(silent_port, backoff=PATIENT).add(job, manifest)
    [retry] = bench.wait_event("delivery-retry")
    assert "answered no association within 1 s" in retry["reason"]


def test_out_of_resources_is_tried_again_with_the_same_bytes(bench, make_pacs):
    pacs = make_pacs()
    job, manifest = bench.finished_job(["seg", "text-sr"])
    pacs.status = lambda uid, sop_class, nth: 0xA700 if sop_class == SegmentationStorage and nth < 2 else 0
    bench.outbox(pacs).add(job, manifest)
    bench.wait_settled((JOB, True))
    seg = [sha for uid, sha, _ in pacs.received if uid in uids(manifest, "seg")]
    text = [sha for uid, sha, _ in pacs.received if uid in uids(manifest, "text-sr")]
    assert (len(seg), len(set(seg)), len(text)) == (3, 1, 1)
    assert [figures["reason"] for figures in bench.events("delivery-retry")] == ["A700 out of resources"] * 2


def test_warning_is_stored_and_said(bench, make_pacs):
    pacs = make_pacs()
    pacs.status = lambda uid, sop_class, nth: 0xB000
    job, manifest = bench.finished_job(["heatmap", "heatmap"])
    bench.outbox(pacs).add(job, manifest)
    bench.wait_settled((JOB, True))
    [warning] = bench.events("object-warning")
    assert (warning["objects"], warning["reason"]) == (2, "B000 coercion of data elements")


@pytest.mark.parametrize("refusal", ["status", "context"])
def test_refused_report_goes_as_enhanced_sr(bench, make_pacs, refusal):
    if refusal == "status":
        pacs = make_pacs()
        pacs.status = lambda uid, sop_class, nth: 0x0122 if sop_class == Comprehensive3DSRStorage else 0
    else:
        pacs = make_pacs(classes=[c for c in CLASSES.values() if c != Comprehensive3DSRStorage])
    job, manifest = bench.finished_job()
    outbox = bench.outbox(pacs)
    outbox.add(job, manifest)
    bench.wait_settled((JOB, True))
    assert set(pacs.held) == set(uids(manifest, "seg", "sr-enhanced", "text-sr", "heatmap"))
    [refused] = bench.events("object-refused")
    assert (refused["destination"], refused["role"]) == ("pacs0", "sr")
    assert bench.states(outbox)["sr", "pacs0"] == "refused"
    assert bench.states(outbox)["sr-enhanced", "pacs0"] == "confirmed"
    assert bench.events("delivered")[0]["reason"] == "without sr, which it does not take"


def test_class_without_context_counts_as_delivered_without_it(bench, make_pacs):
    pacs = make_pacs(classes=[BasicTextSRStorage, SecondaryCaptureImageStorage])
    job, manifest = bench.finished_job()
    bench.outbox(pacs).add(job, manifest)
    bench.wait_settled((JOB, True))
    assert set(pacs.held) == set(uids(manifest, "text-sr", "heatmap"))
    assert {figures["role"] for figures in bench.events("object-refused")} == {"seg", "sr", "sr-enhanced"}
    assert bench.events("delivered")[0]["objects"] == 3


def test_permanent_status_leaves_the_job_undelivered_and_the_rest_there(bench, make_pacs):
    pacs = make_pacs()
    pacs.status = lambda uid, sop_class, nth: 0xA900 if sop_class == SegmentationStorage else 0
    job, manifest = bench.finished_job()
    outbox = bench.outbox(pacs)
    outbox.add(job, manifest)
    bench.wait_settled((JOB, False))
    assert set(pacs.held) == set(uids(manifest, "sr", "text-sr", "heatmap"))
    [failed] = bench.events("object-failed")
    assert (failed["role"], failed["reason"]) == ("seg", "A900 data set does not match the SOP class")
    [undelivered] = bench.events("undelivered")
    assert undelivered["objects"] == 1
    pacs.status = lambda uid, sop_class, nth: 0
    outbox.again(JOB)
    bench.wait_settled((JOB, False), (JOB, True))
    assert len(pacs.received) == 6
    assert bench.receipts()[-1]["state"] == "confirmed"


def test_processing_failure_is_tried_again_and_then_given_up(bench, make_pacs):
    pacs = make_pacs()
    pacs.status = lambda uid, sop_class, nth: 0x0110
    job, manifest = bench.finished_job(["text-sr"])
    bench.outbox(pacs).add(job, manifest)
    bench.wait_settled((JOB, False))
    assert len(pacs.received) == 3


def test_pacs_without_c_find_counts_as_delivered_without_proof(bench, make_pacs):
    pacs = make_pacs(find=False)
    job, manifest = bench.finished_job()
    outbox = bench.outbox(pacs)
    outbox.add(job, manifest)
    bench.wait_settled((JOB, True))
    assert bench.states(outbox)["seg", "pacs0"] == "sent"
    [unproven] = bench.events("unproven")
    assert unproven["objects"] == 5
    assert "offers no C-FIND" in unproven["reason"]


def test_pacs_that_breaks_off_when_asked_is_asked_three_times(bench, make_pacs):
    pacs = make_pacs()
    pacs.find_status = "abort"
    job, manifest = bench.finished_job(["text-sr"])
    bench.outbox(pacs).add(job, manifest)
    bench.wait_settled((JOB, True))
    assert (len(pacs.received), pacs.finds) == (1, 3)
    [unproven] = bench.events("unproven")
    assert "broke off" in unproven["reason"]
    assert "allow queries by NODE there" in unproven["reason"]


def test_without_confirmation_nothing_is_asked(bench, make_pacs):
    pacs = make_pacs()
    job, manifest = bench.finished_job(["text-sr"])
    bench.outbox(pacs, confirm="none").add(job, manifest)
    bench.wait_settled((JOB, True))
    assert (len(pacs.received), pacs.finds) == (1, 0)


def test_object_that_shows_up_late_is_waited_for(bench, make_pacs):
    pacs = make_pacs()
    pacs.visible = lambda uid: pacs.finds >= 6
    job, manifest = bench.finished_job(["text-sr"])
    bench.outbox(pacs, backoff=Backoff(look_first_s=0.02, look_cap_s=0.02)).add(job, manifest)
    bench.wait_settled((JOB, True))
    assert len(pacs.received) == 1


@pytest.mark.slow
def test_object_that_never_shows_up_is_sent_again_and_then_given_up(bench, make_pacs):
    pacs = make_pacs()
    pacs.visible = lambda uid: False
    job, manifest = bench.finished_job(["text-sr"])
    bench.outbox(pacs).add(job, manifest)
    bench.wait_settled((JOB, False))
    assert len(pacs.received) == 3
    assert bench.events("undelivered")[0]["reason"] == "taken 3 times and never shown by C-FIND"


def test_only_wanted_objects_are_sent(bench, make_pacs):
    pacs = make_pacs()
    job, manifest = bench.finished_job()
    bench.outbox(pacs, objects=("text-sr",)).add(job, manifest)
    bench.wait_settled((JOB, True))
    assert set(pacs.held) == set(uids(manifest, "text-sr"))


def test_no_destination_settles_at_once(bench):
    job, manifest = bench.finished_job()
    bench.outbox().add(job, manifest)
    assert bench.settled == [(JOB, True)]


def test_nothing_wanted_settles_at_once(bench, make_pacs):
    job, manifest = bench.finished_job([])
    bench.outbox(make_pacs()).add(job, manifest)
    assert bench.settled == [(JOB, True)]


def test_restart_in_the_middle_sends_nothing_confirmed_twice(bench, make_pacs):
    pacs = make_pacs()
    job, manifest = bench.finished_job()
    heatmaps = uids(manifest, "heatmap")
    pacs.status = lambda uid, sop_class, nth: 0xA700 if uid in heatmaps else 0
    first = bench.outbox(pacs, backoff=PATIENT)
    first.add(job, manifest)
    bench.wait_event("confirmed")
    first.stop()
    assert len(pacs.received) == 5
    pacs.status = lambda uid, sop_class, nth: 0
    second = bench.outbox(pacs, start=False)
    second.add(job, manifest)
    second.start()
    second.wake()
    bench.wait_settled((JOB, True))
    times = [
        sum(uid == received for received, _, _ in pacs.received)
        for uid in uids(manifest, "seg", "sr", "text-sr")
    ]
    assert times == [1, 1, 1]
    assert [sum(uid == received for received, _, _ in pacs.received) for uid in heatmaps] == [2, 2]


def test_stop_in_the_middle_of_an_association_leaves_the_rest_for_the_next_start(bench, make_pacs):
    pacs = make_pacs()
    job, manifest = bench.finished_job()
    reached, go_on = threading.Event(), threading.Event()

    def hold(event):
        reached.set()
        go_on.wait(10)

    pacs.before_store = hold
    first = bench.outbox(pacs)
    first.add(job, manifest)
    assert reached.wait(10)
    stopper = threading.Thread(target=first.stop)
    stopper.start()
    while not first._senders["pacs0"]._stepper.stopping:
        stopper.join(0.01)
    go_on.set()
    stopper.join()
    assert len(pacs.received) == 1
    second = bench.outbox(pacs, start=False)
    second.add(job, manifest)
    second.start()
    bench.wait_settled((JOB, True))
    assert sorted(uid for uid, _, _ in pacs.received) == sorted(pacs.held)


def test_receipts_replace_a_lost_database(bench, make_pacs, make_object, dataset_bytes, quick):
    pacs = make_pacs()
    pacs.visible = lambda uid: pacs.held[uid][1] != f"{STUDY}.0"  # the archive has not filed the heatmaps yet
    job, manifest = bench.finished_job()
    first = bench.outbox(pacs, backoff=PATIENT)
    first.add(job, manifest)
    bench.wait_event("confirmed")
    first.stop()
    bench.store.close()
    for path in bench.spool.root.glob("state.sqlite*"):
        path.unlink()
    with (bench.spool.results / JOB / "delivered" / "pacs0.jsonl").open("a") as receipts:
        receipts.write('{"sop_instance_uid": "torn')
    bench.store = Store(bench.spool.root / "state.sqlite")
    folder = bench.spool.results / JOB
    folder.rename(folder.with_suffix(".aside"))
    job, _ = bench.finished_job([])
    (folder / "manifest.json").unlink()
    folder.rmdir()
    folder.with_suffix(".aside").rename(folder)
    pacs.visible = lambda uid: True
    bench.outbox(pacs).add(job, manifest)
    bench.wait_settled((JOB, True))
    assert len(pacs.received) == 5


def test_file_that_is_gone_fails_and_the_others_arrive(bench, make_pacs):
    pacs = make_pacs()
    job, manifest = bench.finished_job(["seg", "text-sr"])
    (bench.spool.results / JOB / "seg-0.dcm").unlink()
    bench.outbox(pacs).add(job, manifest)
    bench.wait_settled((JOB, False))
    assert set(pacs.held) == set(uids(manifest, "text-sr"))
    assert "can't be read: No such file" in bench.events("object-failed")[0]["reason"]


def test_path_that_leads_out_of_the_spool_is_not_sent(bench, make_pacs, tmp_path):
    pacs = make_pacs()
    job, manifest = bench.finished_job(["seg", "text-sr"])
    secret = tmp_path / "secret.dcm"
    inside = bench.spool.results / JOB / "seg-0.dcm"
    inside.rename(secret)
    inside.symlink_to(secret)
    bench.outbox(pacs).add(job, manifest)
    bench.wait_settled((JOB, False))
    assert set(pacs.held) == set(uids(manifest, "text-sr"))
    assert bench.events("object-failed")[0]["reason"] == "its path leads out of the data folder"


def test_object_that_makes_the_pacs_break_off_holds_up_no_other(bench, make_pacs):
    pacs = make_pacs()
    job, manifest = bench.finished_job(["seg", "sr", "text-sr"])
    [poison] = uids(manifest, "seg")
    pacs.before_store = lambda event: (
        event.assoc.abort() if event.request.AffectedSOPInstanceUID == poison else None
    )
    outbox = bench.outbox(pacs, backoff=Backoff(first_s=600))
    outbox.add(job, manifest)
    bench.wait_event("confirmed")
    assert set(uids(manifest, "sr", "text-sr")) <= set(pacs.held)
    assert bench.unsettled() == {"pacs0": 1}


def test_job_whose_folder_was_meddled_with_holds_up_no_other(bench, make_pacs):
    pacs = make_pacs()
    other = "ee00ff11" * 4
    job, manifest = bench.finished_job(["text-sr"])
    good_job, good_manifest = bench.finished_job(["text-sr"], job_id=other)
    (bench.spool.results / JOB / "manifest.json").unlink()
    outbox = bench.outbox(pacs, start=False)
    outbox.add(job, manifest)
    outbox.add(good_job, good_manifest)
    outbox.start()
    bench.wait_settled((other, True))
    assert any("manifest" in figures["reason"] for figures in bench.events("delivery-retry"))


def test_job_that_no_library_can_send_holds_up_no_other(bench, make_pacs, monkeypatch):
    pacs = make_pacs()
    other = "ee00ff11" * 4
    job, manifest = bench.finished_job(["text-sr"])
    good_job, good_manifest = bench.finished_job(["text-sr"], job_id=other)

    def send(address, paths, *arguments, **options):
        if any(JOB in str(path) for path in paths):
            raise TypeError("of the file's bytes")
        return send_files(address, paths, *arguments, **options)

    monkeypatch.setattr("dicom_node.deliver.destination_sender.send_files", send)
    outbox = bench.outbox(pacs, start=False)
    outbox.add(job, manifest)
    outbox.add(good_job, good_manifest)
    outbox.start()
    bench.wait_settled((other, True))
    assert next(figures["reason"] for figures in bench.events("delivery-retry")) == "TypeError"


def test_new_run_takes_the_place_of_the_old_one(bench, make_pacs, closed_port):
    pacs = make_pacs()
    job, manifest = bench.finished_job(["text-sr"])
    bench.outbox(closed_port, backoff=PATIENT, start=False).add(job, manifest)
    bench.spool.results.joinpath(JOB).rename(bench.spool.results / f"{JOB}.was1")
    with bench.store.session() as session:
        session.get(JobRow, JOB).run = 2
    assert bench.unsettled() == {}  # nothing of a run that was set aside is sent
    folder = bench.spool.results / JOB
    folder.mkdir()
    uid = bench.make_object(folder / "again.dcm", BasicTextSRStorage, study_uid=STUDY, series_uid="1.2.3.1")
    item = ResultObject("text-sr", "again.dcm", str(BasicTextSRStorage), uid, "1.2.3.1", STUDY, "")
    manifest = Manifest(JOB, 2, "flair", "none", "", "2026-11-21T08:00:00+00:00", (item,))
    manifest.write(folder)
    bench.outbox(pacs).add(bench.store.job(JOB), manifest)
    bench.wait_settled((JOB, True))
    assert [received for received, _, _ in pacs.received] == [uid]


def test_late_result_of_a_run_that_was_given_up_is_sent(bench, make_pacs):
    pacs = make_pacs()
    _, manifest = bench.finished_job(run=1)
    with bench.store.session() as session:
        session.get(JobRow, JOB).run = 2
    bench.outbox(pacs).add(bench.store.job(JOB), manifest)
    bench.wait_settled((JOB, True))
    assert set(pacs.held) == set(uids(manifest, "seg", "sr", "text-sr", "heatmap"))


def test_again_sends_to_the_destinations_that_there_are_now(bench, make_pacs):
    job, manifest = bench.finished_job()
    bench.outbox().add(job, manifest)
    assert bench.settled == [(JOB, True)]
    pacs = make_pacs()
    bench.outbox(pacs).again(JOB)
    bench.wait_settled((JOB, True), (JOB, True))
    assert set(pacs.held) == set(uids(manifest, "seg", "sr", "text-sr", "heatmap"))


def test_history_names_every_step_and_the_log_no_patient(bench, make_pacs):
    pacs = make_pacs()
    job, manifest = bench.finished_job(["text-sr"])
    bench.outbox(pacs).add(job, manifest)
    bench.wait_settled((JOB, True))
    [uid] = uids(manifest, "text-sr")
    assert [(row.before, row.after) for row in bench.store.history(f"{uid}@pacs0")] == [
        ("", "pending"),
        ("pending", "sent"),
        ("sent", "confirmed"),
    ]
    text = (bench.spool.root / "worklog.log").read_text() + (bench.spool.root / "worklog.jsonl").read_text()
    assert "Doe" not in text
    assert "4711" not in text


def test_waits_double_up_to_a_cap():
    backoff = Backoff(first_s=5, cap_s=600, jitter=0)
    assert [backoff.wait_s(n) for n in (1, 2, 3, 7, 8, 1000)] == [5, 10, 20, 320, 600, 600]
    assert [backoff.look_again_s(s) for s in (0, 10, 1000)] == [2, 5, 60]


def test_certificate_that_is_not_trusted_waits_for_a_person_and_then_goes_on(bench, make_pacs, tmp_path):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    pacs = make_pacs(tls=server)
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    outbox = bench.outbox(pacs, backoff=PATIENT, tls={"ca": tmp_path / "ca.pem"})
    outbox.add(*bench.finished_job(["seg", "sr"]))
    assert "its certificate is not trusted" in bench.wait_event("delivery-retry")[0]["reason"]
    rows = outbox._states.rows(JOB)
    assert {(row.state, "not trusted" in row.reason) for row in rows} == {("pending", True)}
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    outbox.wake()
    bench.wait_settled((JOB, True))
    assert {(row.state, row.reason) for row in outbox._states.rows(JOB)} == {("confirmed", "")}


def test_file_of_a_destination_that_is_missing_is_said_at_the_start(bench, make_pacs, tmp_path):
    with pytest.raises(ConfigError, match=r"PACS@127\.0\.0\.1:\d+: tls ca .* can't be read"):
        bench.outbox(make_pacs(), tls={"ca": tmp_path / "none.pem"})


def test_clock_that_was_set_back_leaves_nothing_sent_in_the_future(bench):
    now = [time.time()]
    states = ObjectStates(bench.store, bench.spool, lambda: now[0])
    requests = CommitmentRequests(bench.store, lambda: now[0])
    job, manifest = bench.finished_job(roles=("sr",))
    destination = Destination(name="pacs", ae_title="PACS", host="localhost", port=104, confirm="commitment")
    states.enter(job.id, 1, manifest.objects, destination)
    states.record([Change(row, ObjectState.SENT, "", now[0]) for row in states.rows(job.id)])
    now[0] -= 365 * 86400.0
    states.hurry("pacs")
    requests.enter("1.9", "pacs", job.id, [manifest.objects[0].sop_instance_uid])
    (row,) = states.rows(job.id)
    assert row.sent_at == now[0]
    assert requests.times_asked(row) == 1, "a request of now follows what was sent"


def test_clock_that_is_set_back_in_the_middle_of_a_try_makes_the_next_no_later(bench, closed_port):
    shift = [0.0]
    bench.worklog.subscribe(lambda _: shift.__setitem__(0, -3600.0))  # when the first failure is written down
    job, manifest = bench.finished_job(["text-sr"])
    outbox = bench.outbox(closed_port, clock=lambda: time.time() + shift[0], start=False)
    outbox.add(job, manifest)
    outbox.start()
    deadline = time.monotonic() + 20
    while len(bench.events("delivery-retry")) < 2:
        assert time.monotonic() < deadline, bench.lines()
        time.sleep(0.02)


def test_job_taken_back_while_it_is_sent_sends_nothing_more(bench, make_pacs):
    pacs = make_pacs()
    pacs.before_store = lambda event: bench.store.move_job(JOB, JobState.ABANDONED, "corrected", run=2)
    job, manifest = bench.finished_job()
    bench.outbox(pacs).add(job, manifest)
    bench.wait_event("sent")
    assert bench.wait_event("sent")[0]["objects"] == 1
    assert len(pacs.received) == 1
    assert [receipt["state"] for receipt in bench.receipts()] == ["sent"]
    bench.running[0].stop()
    assert len(pacs.received) == 1
    assert bench.events("delivery-retry") == []
    assert delivered_objects(bench.store, JOB) == {"pacs0": 1}


def test_object_that_was_on_its_way_when_its_job_began_anew_disturbs_nothing(bench, make_pacs):
    pacs = make_pacs()
    job, manifest = bench.finished_job(["text-sr"])
    outbox = bench.outbox(pacs, start=False)
    outbox.add(job, manifest)
    [row] = outbox._states.rows(JOB)
    bench.store.move_job(JOB, JobState.QUEUED, "corrected", run=2)
    (bench.spool.results / JOB).rename(bench.spool.results / f"{JOB}.was1")
    outbox._states.record([Change(row, ObjectState.SENT)])
    assert delivered_objects(bench.store, JOB) == {"pacs0": 1}
    with bench.store.session() as session:
        session.delete(row)
    outbox._states.record([Change(row, ObjectState.CONFIRMED)])
