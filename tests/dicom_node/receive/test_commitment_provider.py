"""What the node commits to: only what lies in its spool, and what then stays."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from rig import header

from dicom_node.jobs.retention import Removed, Retention
from dicom_node.jobs.retention_reasons import DAY_S
from dicom_node.jobs.states import SeriesState
from dicom_node.jobs.store import Store
from dicom_node.receive.commitment_provider import CommitmentProvider
from dicom_node.spool.promises import promised_until
from dicom_node.spool.spool import Spool
from dicom_node.standard.commitment import Reference, Request

MR = "1.2.840.10008.5.1.4.1.1.4"
NOW = 2_000_000_000.0


def image(path: Path, uid: str, sop_class: str = MR) -> None:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
    path.parent.mkdir(exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Two series: 1.2.3 with images 1 and 2, and 1.2.4 with image 1."""
    spool = Spool(tmp_path / "data")
    for series, number in (("1.2.3", 1), ("1.2.3", 2), ("1.2.4", 1)):
        image(spool.image_path(series, f"{series}.{number}"), f"{series}.{number}")
    return spool


def provider(spool: Spool, keep_s: float = 14 * DAY_S, filing_s: float = 10.0) -> CommitmentProvider:
    return CommitmentProvider(spool, keep_s, clock=lambda: NOW, filing_s=filing_s)


def request(*uids: str, sop_class: str = MR) -> Request:
    return Request("1.9.9", tuple(Reference(sop_class, uid) for uid in uids))


def failed(report: object) -> dict[str, int]:
    return {one.sop_instance_uid: reason for one, reason in report.failed.items()}  # type: ignore[attr-defined]


def test_what_is_there_is_committed_to_and_promised(spool: Spool) -> None:
    report = provider(spool).commit(request("1.2.3.1", "1.2.4.1", "1.2.3.1"))
    assert report.transaction_uid == "1.9.9"
    assert [one.sop_instance_uid for one in report.committed] == ["1.2.3.1", "1.2.4.1"]
    assert (report.failed, report.event_type) == ({}, 1)
    for series in ("1.2.3", "1.2.4"):
        assert promised_until(spool.series_folder(series)) == NOW + 14 * DAY_S


def test_what_is_not_there_is_said_so(spool: Spool) -> None:
    spool.image_path("1.2.3", "1.2.3.2").write_bytes(b"damaged")
    report = provider(spool).commit(request("1.2.3.1", "1.2.3.9", "1.2.3.2"))
    assert [one.sop_instance_uid for one in report.committed] == ["1.2.3.1"]
    assert failed(report) == {"1.2.3.9": 0x0112, "1.2.3.2": 0x0110}
    assert report.event_type == 2


def test_other_class_than_the_image_has_is_a_conflict(spool: Spool) -> None:
    report = provider(spool).commit(request("1.2.4.1", sop_class="1.2.840.10008.5.1.4.1.1.7"))
    assert failed(report) == {"1.2.4.1": 0x0119}
    assert promised_until(spool.series_folder("1.2.4")) == 0.0


def test_kept_for_ever_is_promised_so(spool: Spool) -> None:
    provider(spool, keep_s=0).commit(request("1.2.4.1"))
    assert promised_until(spool.series_folder("1.2.4")) == float("inf")


def test_promise_that_can_not_be_written_is_not_given(spool: Spool) -> None:
    (spool.series_folder("1.2.4") / "kept-until").mkdir()
    assert failed(provider(spool).commit(request("1.2.4.1", "1.2.3.1"))) == {"1.2.4.1": 0x0110}


def test_image_that_is_still_being_filed_is_waited_for(spool: Spool) -> None:
    waiting = spool.inbox / "abc-000001.dcm"
    image(waiting, "1.2.5.1")
    place = spool.image_path("1.2.5", "1.2.5.1")
    place.parent.mkdir()
    filed = threading.Timer(0.2, lambda: waiting.rename(place))
    filed.start()
    report = provider(spool).commit(request("1.2.5.1"))
    filed.join()
    assert [one.sop_instance_uid for one in report.committed] == ["1.2.5.1"]


def test_image_that_is_never_filed_is_not_waited_for_for_ever(spool: Spool) -> None:
    image(spool.inbox / "abc-000001.dcm", "1.2.5.1")
    assert failed(provider(spool, filing_s=0.2).commit(request("1.2.5.1"))) == {"1.2.5.1": 0x0112}


def test_series_that_is_removed_between_look_and_promise_is_not_committed_to(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(folder: Path, until: float) -> None:
        for path in folder.iterdir():
            path.unlink()

    monkeypatch.setattr("dicom_node.receive.commitment_provider.promise", gone)
    assert failed(provider(spool).commit(request("1.2.4.1"))) == {"1.2.4.1": 0x0112}


def test_series_that_is_promised_while_it_is_removed_comes_back(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(spool.root / "state.sqlite", spool.jobs)
    store.add_image(header(1, series="1.2.4"), "series/a/b.dcm", "SCANNER", NOW - 20 * DAY_S)
    store.move_series("1.2.4", SeriesState.IGNORED)
    removed: list[Removed] = []
    retention = Retention(store, spool, 14, removed.append, clock=lambda: NOW)
    rename = Path.rename

    def promise_first(path: Path, target: Path) -> Path:
        monkeypatch.undo()
        assert provider(spool).commit(request("1.2.4.1")).committed
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", promise_first)
    assert retention.sweep() == []
    assert spool.image_path("1.2.4", "1.2.4.1").exists()
    assert store.series("1.2.4") is not None
    store.close()


def test_series_that_was_to_come_back_when_the_node_was_killed_does(spool: Spool) -> None:
    store = Store(spool.root / "state.sqlite", spool.jobs)
    provider(spool).commit(request("1.2.4.1"))
    home = spool.series_folder("1.2.4")
    (spool.root / "removed" / "x").mkdir(parents=True)
    home.rename(spool.root / "removed" / "x" / home.name)
    Retention(store, spool, 14, print, clock=lambda: NOW).sweep()
    assert spool.image_path("1.2.4", "1.2.4.1").exists()
    assert not (spool.root / "removed").exists()
    store.close()
