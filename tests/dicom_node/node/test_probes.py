"""What ``dicom-node check`` says of the data folder and of destinations."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from rig import header

from dicom_node import __version__
from dicom_node.config.settings import Settings
from dicom_node.deliver.patient_check import OTHER_PATIENT
from dicom_node.errors import BrokerError
from dicom_node.jobs.live_workers import LiveWorker
from dicom_node.jobs.retention_reasons import DAY_S
from dicom_node.jobs.schema import JobRow, ObjectRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.node.probes import check_node
from dicom_node.spool.promises import promise
from dicom_node.spool.spool import Spool
from dicom_node.standard.commitment import PUSH_MODEL
from tests.dicom_node.deliver.conftest import Pacs

DESTINATION = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}


def verdict(data: Path, what: str, **sections: Any) -> tuple[bool, str]:
    settings = Settings.model_validate({"node": {"data": data}, **sections})
    return next((found.ok, found.result) for found in check_node(settings) if found.what == what)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a series of each kind."""
    spool = Spool(tmp_path / "data")
    store = Store(spool.root / "state.sqlite", spool.jobs)
    for number, days in enumerate((40, 30, 20, 10, 1)):
        series = f"1.2.{number}"
        folder = spool.series_folder(series)
        folder.mkdir()
        (folder / "a.dcm").write_bytes(b"x" * 500_000)
        store.add_image(
            header(1, series=series), f"series/{number}/a.dcm", "SCANNER", time.time() - days * DAY_S
        )
    store.move_series("1.2.0", SeriesState.HELD)
    store.move_series("1.2.1", SeriesState.ROUTED)
    store.create_job(
        job_id="a" * 32, series_uid="1.2.1", pipeline="flair", rule="", state=JobState.UNDELIVERED, settings={},
        images=[],
    )  # fmt: skip
    for series in ("1.2.2", "1.2.3", "1.2.4"):
        store.move_series(series, SeriesState.IGNORED)
    promise(spool.series_folder("1.2.2"), time.time() + DAY_S)
    store.close()
    return spool.root


@pytest.mark.parametrize("place", ["/proc/dicom-node", "/sys/a/b"])
def test_data_folder_where_nothing_can_be_made_is_wrong_whatever_the_rights_say(place: str) -> None:
    ok, text = verdict(Path(place), "data folder")
    assert not ok
    assert text.startswith(f"{place.rpartition('/')[0].removesuffix('/a')} can't be written by this user")
    assert text.endswith("choose another [node] data or [worker] spool")


def test_looking_at_the_data_folder_leaves_nothing_in_it(tmp_path: Path) -> None:
    assert verdict(tmp_path / "data", "data folder")[0]
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_and_why(data: Path) -> None:
    ok, text = verdict(data, "kept", destination=[DESTINATION])
    assert ok
    lines = text.splitlines()
    assert lines[0].startswith("5 series, 5 images, 2.5 MB with their results, since 20")
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "1 held",
        "1 refused by a destination",
        "2 younger than keep_days (14)",
        "1 promised to somebody who asked for storage commitment",
    ]
    assert "dicom-node release " in lines[1]
    assert "dicom-node why " in lines[2]


def test_every_held_series_is_named_and_of_a_held_job_the_job(data: Path) -> None:
    store = Store(data / "state.sqlite")
    store.move_job("a" * 32, JobState.QUEUED)
    store.move_job("a" * 32, JobState.HELD, "held by a person")
    names = [series.id[:8] for series in store.series_in(SeriesState.HELD)]
    for number in range(9):
        store.add_image(
            header(1, series=f"1.3.{number}"), f"series/x/{number}.dcm", "SCANNER", time.time() + number
        )
        store.move_series(f"1.3.{number}", SeriesState.HELD)
        names += [series.id[:8] for series in [store.series(f"1.3.{number}")] if series]
    store.close()
    lines = verdict(data, "kept", destination=[DESTINATION])[1].splitlines()
    first, *others = names
    assert (
        f"10 held: dicom-node release {first}; as well {', '.join(others[:7])} and 2 more, see dicom-node status"
        in lines
    )
    assert "1 with a job that a person holds: dicom-node release aaaaaaaa" in lines


def test_what_may_go_is_told(data: Path) -> None:
    _, text = verdict(data, "kept", storage={"keep_days": 5}, destination=[DESTINATION])
    assert "1 done with, to be removed within the hour" in text.splitlines()
    _, text = verdict(data, "kept", storage={"keep_days": 0})
    assert "3 younger than keep_days (0: for ever)" in text.splitlines()


class Broker:
    """Has these workers; None: it does not answer."""

    def __init__(self, workers: list[LiveWorker] | None) -> None:
        self.found = workers

    def __call__(self, url: str, node_id: str) -> Broker:
        return self

    def workers(self) -> list[LiveWorker]:
        if self.found is None:
            raise BrokerError("no broker")
        return self.found

    def close(self) -> None:
        """Have no connection."""


@pytest.mark.parametrize(
    ("workers", "ok", "text"),
    [
        (
            [LiveWorker("gpu1:7", "0.2.0", 1, ("fatsat", "flair"), "cuda:0")],
            True,
            "gpu1:7, version 0.2.0, device cuda:0, for fatsat, flair",
        ),
        ([], True, "none answers: jobs wait for one (those of 0.1.0 work, and never answer)"),
        (None, False, "not known while the broker does not answer"),
        (
            [
                LiveWorker("gpu1:7", "0.2.0", 1, ("flair",), "cpu"),
                LiveWorker("gpu2:8", "0.9.0", 2, ("flair",), "cpu"),
            ],
            False,
            "worker gpu2:8 is of version 0.9.0 and reads messages of version 2, this node is of version "
            f"{__version__} and writes version 1: update the node; jobs wait until then",
        ),
    ],
)
def test_workers_are_told_and_those_of_another_version_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: list[LiveWorker] | None, ok: bool, text: str
) -> None:
    monkeypatch.setattr("dicom_node.node.probes.Dispatcher", Broker(workers))
    assert verdict(tmp_path, "workers", broker={"url": "redis://127.0.0.1:1"}) == (ok, text)


def test_jobs_that_wait_for_a_queue_without_a_worker_are_wrong(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(data / "state.sqlite")
    store.move_job("a" * 32, JobState.QUEUED)
    store.close()
    fatsat = LiveWorker("gpu1:7", "0.2.0", 1, ("fatsat",), "cpu")
    for found in ([], [fatsat]):
        monkeypatch.setattr("dicom_node.node.probes.Dispatcher", Broker(found))
        assert verdict(data, "workers", broker={"url": "redis://127.0.0.1:1"}) == (
            False,
            "1 job waits for a flair worker and none answers: start one, dicom-node worker --queues flair",
        )


def test_workers_are_not_looked_for_where_the_embedded_broker_is_not_running(tmp_path: Path) -> None:
    assert verdict(tmp_path, "workers") == (True, "none, they need the broker")


def test_folder_in_which_no_node_has_worked_is_left_as_it_is(tmp_path: Path) -> None:
    assert verdict(tmp_path, "kept") == (True, "nothing: no node has worked in the data folder")
    assert list(tmp_path.iterdir()) == []


def test_data_folder_that_is_open_to_everybody_is_told(data: Path) -> None:
    assert verdict(data, "data folder", storage={"high_water": 1.0})[0]
    data.chmod(0o755)
    ok, text = verdict(data, "data folder", storage={"high_water": 1.0})
    assert not ok
    assert f"chmod 700 {data}" in text


@pytest.mark.parametrize("offers", [True, False])
def test_commitment_that_is_wanted_and_not_offered_is_told(tmp_path: Path, offers: bool) -> None:
    pacs = Pacs()
    if offers:
        pacs.ae.add_supported_context(PUSH_MODEL)
    pacs.start()
    destination = DESTINATION | {"port": pacs.port, "confirm": "commitment"}
    ok, text = verdict(tmp_path, "destination pacs", destination=[destination])
    pacs.stop()
    assert ok is offers
    assert (
        "and offers storage commitment" if offers else "offers no storage commitment; allow it there"
    ) in text


def test_certificate_that_is_missing_is_named(tmp_path: Path) -> None:
    destination = DESTINATION | {"tls": {"ca": tmp_path / "none.pem"}}
    ok, text = verdict(tmp_path, "destination pacs", destination=[destination])
    assert not ok
    assert "tls ca" in text
    assert "can't be read" in text


@pytest.mark.parametrize(
    ("mode", "find", "status", "ok", "text"),
    [
        ("known", True, 0, True, ""),
        ("known", False, 0, True, "it offers no C-FIND: whose study it has can't be asked before sending"),
        ("known", True, 0xA900, True, "it answered C-FIND with A900: whose study it has can't be asked"),
        ("required", False, 0, False, 'or set verify_patient = "known"'),
        ("off", False, 0, True, ""),
    ],
)
def test_destination_that_cannot_be_asked_whose_study_it_has_is_told_once(
    tmp_path: Path, mode: str, find: bool, status: int, ok: bool, text: str
) -> None:
    pacs = Pacs(find=find)
    pacs.study_status = status
    pacs.start()
    destination = DESTINATION | {"port": pacs.port, "verify_patient": mode}
    found, told = verdict(tmp_path, "destination pacs", destination=[destination])
    pacs.stop()
    assert found is ok
    assert text in told
    assert told.count("C-FIND") == bool(text)


@pytest.mark.parametrize(("held", "sent", "told"), [(2, 0, True), (1, 0, False), (2, 1, False)])
def test_destination_where_every_study_is_of_another_patient_is_told_of_once(
    data: Path, held: int, sent: int, told: bool
) -> None:
    store = Store(data / "state.sqlite")
    with store.session() as session:
        for number in range(held + sent):
            job_id = f"{number:032x}"
            session.add(
                JobRow(id=job_id, series_uid="1.2.1", pipeline="flair", state="delivered", created_at=1.0)
            )
            session.flush()
            state, reason = ("failed", f"{OTHER_PATIENT} (...)") if number < held else ("confirmed", "")
            session.add(
                ObjectRow(
                    sop_instance_uid=f"1.{number}", destination="pacs", job_id=job_id, run=1, role="sr",
                    sop_class_uid="1.2", path="", state=state, reason=reason,
                )
            )  # fmt: skip
    store.close()
    pacs = Pacs().start()
    _, text = verdict(data, "destination pacs", destination=[DESTINATION | {"port": pacs.port}])
    pacs.stop()
    assert ("every study there (2) is another patient's" in text) is told
