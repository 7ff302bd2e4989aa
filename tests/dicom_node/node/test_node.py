"""The node without workers: what comes in over DICOM gets its verdict, and people can steer it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series

from dicom_node.config.settings import load_settings
from dicom_node.deliver.address import Address
from dicom_node.deliver.c_store import send_files
from dicom_node.errors import NodeError, NotFoundError, PortTakenError, SpoolError
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.jobs.why import why
from dicom_node.node.control_socket import ask
from dicom_node.node.embedded_broker import EmbeddedBroker
from dicom_node.node.node import Node
from dicom_node.priors.preview import preview
from dicom_node.results.manifest import Manifest, ResultObject
from dicom_node.spool.refusals import Refusal, refuse
from pipelines.types import PipelineInfo
from tests.priors_rig import RigPacs, flair, write_answer

FLAIR = {
    "SeriesDescription": "t2_tirm_tra_dark-fluid",
    "ScanningSequence": ["SE", "IR"],
    "InversionTime": 2500.0,
    "EchoTime": 90.0,
    "RepetitionTime": 9000.0,
}
ORBITS = {
    "SeriesDescription": "t2_tse_fs_cor_orbita",
    "ScanningSequence": "SE",
    "ScanOptions": "FS",
    "InversionTime": None,
    "EchoTime": 84.0,
    "RepetitionTime": 4000.0,
    "BodyPartExamined": "ORBIT",
}
ORBIT_SHAPE: dict[str, Any] = {"shape": (20, 64, 64), "orientation": "coronal", "spacing": (3.0, 0.5, 0.5)}
INSTALLED = {"flair": PipelineInfo("flair", "FLAIR lesions", "1", "0" * 64, {"threshold": 0.5})}


class Rig:
    """A node with an embedded broker and no worker, which receives in this process unless a table says otherwise."""

    def __init__(
        self, folder: Path, installed: Mapping[str, PipelineInfo] = INSTALLED, **tables: Any
    ) -> None:
        self.installed = installed
        self.data = folder / "data"
        node = {"host": "127.0.0.1", "port": 0, "data": str(self.data)}
        tables = {"series": {"quiet_s": 0.2}, "accept": {"processes": 0}, **tables}
        self.settings = load_settings(None, {"node": node, **tables})
        self.broker = EmbeddedBroker(folder / "broker")
        self.broker.start()
        try:
            self.start()
        except BaseException:
            self.broker.stop()
            raise

    def start(self) -> None:
        self.node = Node(self.settings, self.installed, self.broker.url)
        self.node.start()

    def stop(self) -> None:
        self.node.stop()
        self.broker.stop()

    def send(self, files: list[Path]) -> None:
        address = Address("LESIONNODE", "127.0.0.1", self.node.scp.port)
        results = send_files(address, files, "SCANNER")
        assert not [result.reason for result in results if not result.outcome.stored]

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (self.data / "worklog.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["event"] == name]

    def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        until(lambda: len(self.events(name)) >= count, lambda: f"no {count} x {name}:\n{self.log()}")
        return self.events(name)[count - 1]

    def log(self) -> str:
        return (self.data / "worklog.log").read_text()


def until(condition: Callable[[], bool], what: Callable[[], str], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    running = Rig(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def rig_of_two_processes(tmp_path: Path) -> Iterator[Rig]:
    running = Rig(tmp_path, accept={"processes": 1})
    yield running
    running.stop()


@pytest.mark.slow
def test_flair_becomes_a_queued_job(rig_of_two_processes: Rig, tmp_path: Path) -> None:
    rig = rig_of_two_processes
    rig.send(mr_series(tmp_path / "a", **FLAIR))
    rig.wait_for("queued")
    assert rig.events("received")[0]["images"] == 12
    assert "flair-by-physics" in rig.events("routed")[0]["reason"]
    jobs = rig.node.store.jobs_in(JobState.QUEUED)
    assert [len(job.images) for job in jobs] == [12]
    assert (rig.data / "jobs" / f"{jobs[0].id}.json").is_file()


@pytest.mark.slow
def test_same_series_sent_twice_is_one_job(rig: Rig, tmp_path: Path) -> None:
    files = mr_series(tmp_path / "a", **FLAIR)
    rig.send(files)
    rig.wait_for("queued")
    rig.send(files)
    assert rig.wait_for("duplicate")["images"] == 12
    assert len(rig.node.store.jobs_in(*JobState)) == 1


@pytest.mark.slow
def test_series_that_nothing_wants_is_ignored_with_its_reason(rig: Rig, tmp_path: Path) -> None:
    rig.send(mr_series(tmp_path / "a", SeriesDescription="t1_mprage", ScanningSequence="GR", EchoTime=2.3))
    reason = rig.wait_for("ignored")["reason"]
    assert "no rule wants it" in reason
    assert rig.node.store.series_in(SeriesState.IGNORED)[0].reason == reason


@pytest.mark.slow
def test_orbits_end_visibly_without_a_pipeline(rig: Rig, tmp_path: Path) -> None:
    rig.send(
        mr_series(
            tmp_path / "a", shape=(20, 64, 64), orientation="coronal", spacing=(3.0, 0.5, 0.5), **ORBITS
        )
    )
    assert rig.wait_for("no-pipeline")["pipeline"] == "fatsat"
    assert [job.state for job in rig.node.store.jobs_in(*JobState)] == [JobState.NO_PIPELINE]


@pytest.fixture
def orbit_rig(tmp_path: Path) -> Iterator[Rig]:
    settings: dict[str, object] = {"members": 32, "points": None}
    fatsat = PipelineInfo("fatsat", "FAT-SAT optic nerves", "1", "1" * 64, settings)
    running = Rig(tmp_path, {**INSTALLED, "fatsat": fatsat})
    yield running
    running.stop()


POINTS = {"points": {"left": [31.0, 10.0, 2.5]}}


@pytest.mark.slow
def test_persons_points_make_a_job_of_their_own_that_replaces_the_first(
    orbit_rig: Rig, tmp_path: Path
) -> None:
    rig = orbit_rig
    rig.send(mr_series(tmp_path / "a", **ORBIT_SHAPE, **ORBITS))
    first = rig.wait_for("queued")["id"]
    answer = ask(rig.data, "retry", first, POINTS)
    (job,) = rig.node.store.jobs_in(JobState.QUEUED)
    assert answer == f"job {first} is analysed again with what you gave, as job {job.id[:8]}"
    assert job.settings == {"members": 32, **POINTS}
    assert json.loads((rig.data / "jobs" / f"{job.id}.json").read_text())["settings"] == job.settings
    assert [row.id[:8] for row in rig.node.store.jobs_in(JobState.ABANDONED)] == [first]
    assert rig.wait_for("retry")["reason"] == "with points given by a person"
    with pytest.raises(
        NodeError, match=f"job {job.id[:8]} has these settings; dicom-node retry {job.id[:8]}"
    ):
        ask(rig.data, "retry", job.id, POINTS)


@pytest.mark.slow
def test_persons_points_stay_with_the_series_when_a_late_image_comes(orbit_rig: Rig, tmp_path: Path) -> None:
    rig = orbit_rig
    files = mr_series(tmp_path / "a", **ORBIT_SHAPE, **ORBITS)
    rig.send(files[:-1])
    ask(rig.data, "retry", rig.wait_for("queued")["id"], POINTS)
    rig.send(files[-1:])
    rig.wait_for("routed", count=2)
    until(lambda: len(rig.node.store.jobs_in(*JobState)) == 3, rig.log)
    (job,) = rig.node.store.jobs_in(JobState.QUEUED)
    assert (len(job.images), job.settings["points"]) == (20, POINTS["points"])


@pytest.mark.slow
def test_points_for_a_pipeline_that_takes_none_are_refused(rig: Rig, tmp_path: Path) -> None:
    rig.send(mr_series(tmp_path / "a", **FLAIR))
    with pytest.raises(NodeError, match="is of flair, which takes no points"):
        ask(rig.data, "retry", rig.wait_for("queued")["id"], POINTS)
    assert len(rig.node.store.jobs_in(JobState.QUEUED)) == 1


@pytest.mark.slow
def test_gap_holds_the_series_and_a_late_image_frees_it(rig: Rig, tmp_path: Path) -> None:
    files = mr_series(tmp_path / "a", **FLAIR)
    rig.send(files[:5] + files[6:])
    assert "missing" in rig.wait_for("held")["reason"]
    rig.send(files[5:6])
    rig.wait_for("queued")
    assert rig.node.store.series_in(SeriesState.ROUTED)


@pytest.mark.slow
def test_person_releases_a_held_series(rig: Rig, tmp_path: Path) -> None:
    files = mr_series(tmp_path / "a", **FLAIR)
    rig.send(files[:5] + files[6:])
    held = rig.wait_for("held")
    answer = ask(rig.data, "release", held["id"])
    assert "analysed as it is" in answer
    rig.wait_for("queued")
    assert "released by a person" in rig.node.store.jobs_in(JobState.QUEUED)[0].note


@pytest.mark.slow
def test_late_image_replaces_the_job_that_has_not_run(rig: Rig, tmp_path: Path) -> None:
    files = mr_series(tmp_path / "a", **FLAIR)
    rig.send(files[:-1])
    rig.wait_for("queued")
    rig.send(files[-1:])
    rig.wait_for("queued", 2)
    states = sorted(job.state for job in rig.node.store.jobs_in(*JobState))
    assert states == [JobState.ABANDONED, JobState.QUEUED]


@pytest.mark.slow
def test_hold_and_release_a_job(rig: Rig, tmp_path: Path) -> None:
    rig.send(mr_series(tmp_path / "a", **FLAIR))
    job = rig.wait_for("queued")["id"]
    assert "is held" in ask(rig.data, "hold", job)
    assert rig.node.store.jobs_in(JobState.HELD)
    assert "queued again" in ask(rig.data, "release", job)
    rig.wait_for("queued", 2)
    with pytest.raises(NodeError, match="nothing to retry"):
        ask(rig.data, "retry", job)
    with pytest.raises(NodeError, match="ffffffff"):
        ask(rig.data, "hold", "ffffffff")


@pytest.mark.slow
def test_restart_goes_on_where_it_was(rig: Rig, tmp_path: Path) -> None:
    files = mr_series(tmp_path / "a", **FLAIR)
    rig.send(files[:5] + files[6:])
    rig.wait_for("held")
    rig.node.stop()
    rig.start()
    rig.send(files[5:6])
    rig.wait_for("queued")
    assert len(rig.node.store.images(rig.node.store.series_in(SeriesState.ROUTED)[0].series_uid)) == 12


@pytest.mark.slow
def test_damaged_database_is_made_again_from_the_spool(rig: Rig, tmp_path: Path) -> None:
    rig.send(mr_series(tmp_path / "a", **FLAIR))
    rig.wait_for("queued")
    job_id = rig.node.store.jobs_in(JobState.QUEUED)[0].id
    rig.node.stop()
    for path in rig.data.glob("state.sqlite*"):
        path.unlink()
    (rig.data / "state.sqlite").write_bytes(b"this is no database" * 500)
    rig.start()
    assert any("12 images and 1 jobs of the spool" in one["reason"] for one in rig.events("warning"))
    assert [job.id for job in rig.node.store.jobs_in(JobState.QUEUED)] == [job_id]


@pytest.mark.slow
def test_receipts_that_cannot_be_read_stop_no_start(tmp_path: Path) -> None:
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
    rig = Rig(tmp_path, destination=[pacs])
    try:
        rig.send(mr_series(tmp_path / "a", **FLAIR))
        rig.wait_for("queued")
        store, results = rig.node.store, rig.data / "results"
        job = store.jobs_in(JobState.QUEUED)[0]
        rig.node.stop()
        item = ResultObject("sr", "sr.dcm", "1.2.3", "1.2.3.4", "1.2.3.5", "1.2.3.6", "0" * 64)
        (results / job.id / "delivered" / "pacs.jsonl").mkdir(parents=True)
        Manifest(job.id, job.run, "flair", "findings", "", "", (item,)).write(results / job.id)
        store = Store(rig.data / "state.sqlite")
        for state in (JobState.RUNNING, JobState.DELIVERING):
            store.move_job(job.id, state, "")
        store.close()
        rig.start()
        (told,) = [one["reason"] for one in rig.events("warning") if one["name"] == "results"]
        assert f"dicom-node retry {job.id[:8]}" in told
        assert [row.id for row in rig.node.store.jobs_in(JobState.UNDELIVERED)] == [job.id]

        (results / job.id / "delivered" / "pacs.jsonl").rmdir()
        rig.node.steering.steer("retry", job.id)
        assert [row.id for row in rig.node.store.jobs_in(JobState.DELIVERING)] == [job.id]
    finally:
        rig.stop()


@pytest.mark.slow
def test_why_tells_the_reason_and_the_way_out(rig: Rig, tmp_path: Path) -> None:
    files = mr_series(tmp_path / "a", **FLAIR)
    rig.send(files[:5] + files[6:])
    held = rig.wait_for("held")
    text = "\n".join(line for line, _ in why(rig.data, held["id"]))
    assert ": held" in text
    assert f"dicom-node release {held['id']}" in text
    assert "11 images from SCANNER" in text
    with pytest.raises(NotFoundError):
        list(why(rig.data, "ffffffff"))


@pytest.mark.slow
def test_worker_that_cannot_read_messages_stands_in_worklog_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.node.node.LEASE_S", 3.0)
    rig = Rig(tmp_path)
    try:
        rig.send(mr_series(tmp_path / "s", **FLAIR))
        rig.wait_for("queued")
        (job,) = rig.node.store.jobs_in(JobState.QUEUED)
        rig.node.dispatcher.forget(job.id, job.pipeline)  # as a worker that takes it
        refuse(rig.node.spool.refused, Refusal(f"{job.id}.run1", "gpu1:7", "0.9.0", 2, ""))
        told = rig.wait_for("warning", 3)
        assert told["name"] == "worker"
        assert told["reason"].startswith(
            "worker gpu1:7 is of version 0.9.0 and reads messages of version 2, this"
        )
        until(lambda: any(told["reason"] in line for line, _ in why(rig.data, job.id[:8])), rig.log)
    finally:
        rig.stop()


def get(rig: Rig, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", rig.node.web.port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.slow
def test_job_that_no_worker_takes_makes_the_node_unwell_and_stands_in_worklog_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("FIRST_LOOK_S", 0.05), ("LOOK_S", 0.1)):
        monkeypatch.setattr(f"dicom_node.jobs.worker_watch.{name}", seconds)
    monkeypatch.setattr("dicom_node.jobs.known_workers.UNSERVED_S", 0.5)
    rig = Rig(tmp_path)
    try:
        assert list(rig.node.troubles()) == []
        rig.send(mr_series(tmp_path / "a", **FLAIR))
        told = rig.wait_for("no-worker")
        assert (told["pipeline"], told["count"]) == ("flair", 1)
        assert "dicom-node worker --queues flair" in told["reason"]
        (trouble,) = rig.node.troubles()
        assert trouble.startswith("1 job waits for a flair worker and none answers")
        job = rig.node.store.jobs_in(JobState.QUEUED)[0]
        assert any("no flair worker answers" in line for line, _ in why(rig.data, job.id[:8]))
        assert ask(rig.data, "troubles", "") == ""
        rig.node.web.listen(0)
        assert get(rig, "/healthz") == (503, f"{trouble}\n")
        assert "dicom-node worker --queues flair" in get(rig, "/")[1]
        assert f"job {job.id[:8]} (flair, run 1)" in get(rig, f"/why/{job.id[:8]}")[1]
        numbers = get(rig, "/metrics")[1]
        assert 'dicom_node_workers{queue="flair"} 0.0' in numbers
        assert "dicom_node_jobs_queued 1.0" in numbers
        assert 'dicom_node_queue_unserved_seconds{queue="flair"} 0.0' not in numbers
        ask(rig.data, "hold", job.id)
        rig.wait_for("worker-back")
        assert list(rig.node.troubles()) == []
        assert len(rig.events("no-worker")) == 1
    finally:
        rig.stop()


@pytest.mark.slow
def test_patient_stands_in_no_log(rig: Rig, tmp_path: Path) -> None:
    patient = {"PatientName": "GREPME^NOBODY", "PatientID": "GREPME-4711"}
    rig.send(mr_series(tmp_path / "a", **FLAIR, **patient))
    rig.wait_for("queued")
    for name in ("worklog.log", "worklog.jsonl"):
        assert "grepme" not in (rig.data / name).read_text().lower()


@pytest.mark.slow
def test_file_that_is_no_image_is_set_aside(rig: Rig) -> None:
    broken = rig.data / "inbox" / "0123456789ab-000001.dcm"
    rig.node.stop()
    broken.write_bytes(b"\0" * 128 + b"DICM" + b"nonsense")
    rig.start()
    assert rig.wait_for("quarantined")["reason"]
    assert len(list((rig.data / "quarantine").glob("*.dcm"))) == 1


def test_second_node_on_the_same_folder_is_refused(rig: Rig) -> None:
    with pytest.raises(SpoolError, match="another node uses this data folder"):
        Node(rig.settings, INSTALLED, rig.broker.url)


def test_taken_port_is_refused(rig: Rig, tmp_path: Path) -> None:
    taken = {"host": "127.0.0.1", "port": rig.node.scp.port, "data": str(tmp_path / "other")}
    other = Node(load_settings(None, {"node": taken}), INSTALLED, rig.broker.url)
    with pytest.raises(PortTakenError, match="is in use: choose another"):
        other.start()
    other.stop()


@pytest.mark.slow
def test_earlier_study_is_looked_for_after_the_answer_and_gets_no_job(tmp_path: Path) -> None:
    pacs = RigPacs()
    before, now = flair(tmp_path / "before", "20250401"), flair(tmp_path / "now", "20260301")
    pacs.has(before)
    destination = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}
    rig = Rig(tmp_path, destination=[destination], priors={"from": "pacs"})
    try:
        pacs.node = "LESIONNODE", rig.node.scp.port
        rig.send(now)
        rig.wait_for("queued")
        (job,) = rig.node.store.jobs_in(JobState.QUEUED)
        assert pacs.found == []
        write_answer(rig.data / "results", job, now[0])
        prior = rig.wait_for("prior-found")
        assert (prior["id"], prior["days"], prior["images"]) == (job.id[:8], 334, 6)
        assert [line["pipeline"] for line in rig.events("queued")] in (["flair"], ["flair", "change"])
        lines = list(preview(rig.settings, job.id))
        assert f"here: series {prior['series']} of 2025-04-01, 334 days earlier, 6 images, grade A" in lines
        assert "searched before: 1 prior" in lines
        ask(rig.data, "retry", prior["series"])
        assert len({line["id"] for line in (rig.wait_for("queued", number) for number in (1, 2, 3))}) == 3
    finally:
        rig.stop()
        pacs.stop()
