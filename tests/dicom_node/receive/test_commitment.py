"""Storage commitment on associations that peers open: what they are told, and where."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, build_role, evt

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import Timeouts, UnreachableError
from dicom_node.deliver.backoff import Backoff
from dicom_node.deliver.commitment_reporter import CommitmentReporter
from dicom_node.receive.commitment_provider import CommitmentProvider
from dicom_node.receive.commitment_scp import CommitmentPolicy, read_request, write_request
from dicom_node.spool.spool import Spool
from dicom_node.standard.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    Reference,
    Report,
    Request,
    decode_report,
    encode_report,
    encode_request,
)
from dicom_node.worklog.follow import records
from dicom_node.worklog.writer import Worklog

MR = "1.2.840.10008.5.1.4.1.1.4"
WAIT_S = 20.0
HERE, GONE = Reference(MR, "1.2.826.0.1.3680043.8.498.1.1"), Reference(MR, "1.2.3.9")
REQUEST = Request("1.9.1", (HERE, GONE))


class Asker:
    """A peer that asks for commitment, and hears reports on the same association or on its own port."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.roles: list[Any] = []
        self.changed = threading.Condition()
        self.connections: list[Any] = []
        self.status = 0
        self.ae = AE("ASKER")
        self.ae.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
        self.server = self.ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.hear)]
        )
        self.address = Address("ASKER", "127.0.0.1", self.server.socket.getsockname()[1])

    def hear(self, event: Any) -> tuple[int, None]:
        with self.changed:
            self.roles.append(dict(event.assoc.requestor.role_selection))
            self.reports.append(decode_report(event.event_information))
            self.changed.notify_all()
        return self.status, None

    def wait(self, count: int = 1) -> list[Report]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.reports) >= count, WAIT_S)
        return self.reports

    def associate(self, port: int, **options: Any) -> Any:
        handlers = [(evt.EVT_N_EVENT_REPORT, self.hear)]
        contexts = [build_context(PUSH_MODEL)]
        assoc = self.ae.associate(
            "127.0.0.1", port, contexts, ae_title="NODE", evt_handlers=handlers, **options
        )
        assert assoc.is_established
        self.connections.append(assoc.dul.socket.socket)
        return assoc

    def ask(
        self, assoc: Any, request: Request | Dataset = REQUEST, action: int = 1, instance: str = ""
    ) -> int:
        ds = encode_request(request) if isinstance(request, Request) else request
        status, _ = assoc.send_n_action(ds, action, PUSH_MODEL, instance or PUSH_MODEL_INSTANCE)
        return int(status.Status)


@pytest.fixture
def asker() -> Iterator[Asker]:
    asker = Asker()
    yield asker
    asker.server.shutdown()
    for connection in asker.connections:  # pynetdicom leaves it open when the peer has closed first
        connection.close()


@pytest.fixture
def kept(spool: Spool, make_image: Callable[..., Dataset]) -> Path:
    """An image that lies in the spool, filed."""
    ds = make_image(1)
    path = spool.image_path(ds.SeriesInstanceUID, HERE.sop_instance_uid)
    path.parent.mkdir()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = HERE
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("processes", [0, 1])
def test_stranger_is_answered_where_it_asked(
    start_scp: Any, recorder: Any, asker: Asker, kept: Path, processes: int
) -> None:
    scp = start_scp(commitment=CommitmentPolicy(14 * 86400.0), processes=processes)
    assoc = asker.associate(scp.port)
    assert asker.ask(assoc) == 0
    (report,) = asker.wait()
    assert report == Report("1.9.1", (HERE,), {GONE: 0x0112})
    assert recorder.wait("commitment_given") == [(1, 1)]
    assert (kept.parent / "kept-until").exists()
    assert asker.ask(assoc) == 0  # the association goes on
    assoc.release()
    assert assoc.is_released


def test_stranger_has_the_response_once_the_report_is_ready(
    start_scp: Any, asker: Asker, kept: Path, spool: Spool
) -> None:
    waiting = spool.inbox / "abc-000001.dcm"
    kept.rename(waiting)
    filed = threading.Timer(0.5, lambda: waiting.rename(kept))
    assoc = asker.associate(start_scp(commitment=CommitmentPolicy(14 * 86400.0)).port)
    filed.start()
    assert asker.ask(assoc) == 0
    assert (kept.parent / "kept-until").exists(), "it may release now, and the report is on its way already"
    assert asker.wait()[0].committed == (HERE,)
    assoc.release()


def test_stranger_is_not_kept_waiting_for_the_response_by_a_full_inbox(
    start_scp: Any, asker: Asker, kept: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.receive.commitment_scp.PROMPT_S", 0.1)
    waiting = spool.inbox / "abc-000001.dcm"
    kept.rename(waiting)
    assoc = asker.associate(start_scp(commitment=CommitmentPolicy(14 * 86400.0)).port)
    assert asker.ask(assoc) == 0
    assert asker.reports == []
    waiting.rename(kept)
    assert asker.wait()[0].committed == (HERE,)
    assoc.release()


def test_stranger_who_has_gone_harms_nobody(start_scp: Any, recorder: Any, asker: Asker, kept: Path) -> None:
    scp = start_scp()
    assoc = asker.associate(scp.port)
    assert asker.ask(assoc) == 0
    assoc.abort()
    recorder.wait("association_ended")
    assert asker.ask(asker.associate(scp.port)) == 0


def test_request_of_one_whose_address_is_known_is_left_for_the_node(
    start_scp: Any, recorder: Any, asker: Asker, spool: Spool
) -> None:
    scp = start_scp(commitment=CommitmentPolicy(0.0, frozenset({"ASKER"})))
    assoc = asker.associate(scp.port)
    assert asker.ask(assoc) == 0
    assoc.release()
    ((name,),) = recorder.wait("commitment_asked")
    path = spool.root / "commitments" / name
    assert read_request(path) == ("ASKER", REQUEST)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert asker.reports == []


def test_request_is_not_written_down_on_a_disk_that_is_over_the_mark(
    start_scp: Any, asker: Asker, spool: Spool
) -> None:
    spool.high_water = 0.0
    scp = start_scp(commitment=CommitmentPolicy(0.0, frozenset({"ASKER"})))
    assoc = asker.associate(scp.port)
    assert asker.ask(assoc) == 0x0213
    assoc.release()
    assert not (spool.root / "commitments").exists()


@pytest.mark.parametrize("role", [True, False])
def test_report_on_an_association_of_the_peer_is_told(
    start_scp: Any, recorder: Any, asker: Asker, role: bool
) -> None:
    scp = start_scp()
    roles = [build_role(PUSH_MODEL, scp_role=True)] if role else []
    assoc = asker.associate(scp.port, ext_neg=roles)
    assert [cx.as_scp for cx in assoc.accepted_contexts] == [role]
    report = Report("1.9.1", (HERE,), {GONE: 0x0112})
    status, _ = assoc.send_n_event_report(encode_report(report), 2, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    assert status.Status == 0
    details = ("1.9.1", [HERE.sop_instance_uid], {GONE.sop_instance_uid: 0x0112})
    assert recorder.wait("commitment_reported") == [details]
    assoc.release()


def bad_request(**elements: Any) -> Dataset:
    ds = encode_request(REQUEST)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"action": 2}, 0x0123),
        ({"instance": "1.2.3"}, 0x0112),
        ({"request": bad_request(TransactionUID="")}, 0x0115),
        ({"request": bad_request(ReferencedSOPSequence=[])}, 0x0115),
        ({"request": bad_request(ReferencedSOPSequence=[Dataset()])}, 0x0115),
    ],
)
def test_request_that_can_not_be_meant_is_refused(
    start_scp: Any, asker: Asker, options: dict[str, Any], status: int
) -> None:
    assoc = asker.associate(start_scp().port)
    assert asker.ask(assoc, **options) == status
    assert asker.ask(assoc) == 0
    assoc.release()


def test_report_without_uids_is_refused(start_scp: Any, recorder: Any, asker: Asker) -> None:
    assoc = asker.associate(start_scp().port)
    ds = encode_report(Report("1.2", (HERE,)))
    del ds.TransactionUID
    status, _ = assoc.send_n_event_report(ds, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    assert status.Status == 0x0115
    assoc.release()
    assert recorder.of("commitment_reported") == []


QUICK = Backoff(first_s=0.05, cap_s=0.1)


class Answering:
    """The node's side that answers on associations of its own."""

    def __init__(
        self, spool: Spool, address: Address, reported: Any = None, backoff: Backoff = QUICK
    ) -> None:
        self.spool = spool
        self.worklog = Worklog(spool.root)
        self.commitments = CommitmentReporter(
            spool,
            14 * 86400.0,
            [address],
            ae_title="NODE",
            worklog=self.worklog,
            reported=reported or (lambda *_: False),
            backoff=backoff,
            timeouts=Timeouts(2, 2, 2),
        )

    def event(self, name: str) -> dict[str, Any]:
        """Wait for an event of the worklog, and return its figures."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for one in records(self.spool.root):
                if one.event == name:
                    return dict(one.figures)
            time.sleep(0.02)
        raise AssertionError(f"no {name}: {[one.line() for one in records(self.spool.root)]}")

    def files(self) -> list[Path]:
        return sorted((self.spool.root / "commitments").glob("*"))


def test_answer_is_brought_on_an_association_of_ours(asker: Asker, kept: Path, spool: Spool) -> None:
    node = Answering(spool, asker.address)
    node.commitments.start()
    node.commitments.asked(write_request(spool, "ASKER", REQUEST))
    (report,) = asker.wait()
    assert report == Report("1.9.1", (HERE,), {GONE: 0x0112})
    role = asker.roles[0][PUSH_MODEL]
    assert (role.scu_role, role.scp_role) == (False, True)
    given = node.event("commitment-given")
    assert (given["calling_ae"], given["images"], given["objects"]) == ("ASKER", 2, 1)
    node.commitments.stop()
    assert node.files() == []
    node.worklog.close()


def test_answer_that_a_restart_interrupted_is_brought_after_it(
    asker: Asker, kept: Path, spool: Spool
) -> None:
    write_request(spool, "ASKER", REQUEST)
    node = Answering(spool, asker.address)
    node.commitments.start()
    assert asker.wait()[0].committed == (HERE,)
    node.commitments.stop()
    node.worklog.close()


def test_asker_that_is_away_is_tried_again(asker: Asker, kept: Path, spool: Spool) -> None:
    asker.status = 0x0110
    node = Answering(spool, asker.address)
    write_request(spool, "ASKER", REQUEST)
    node.commitments.start()
    asker.wait(2)
    asker.status = 0
    node.event("commitment-given")
    node.commitments.stop()
    assert node.files() == []
    node.worklog.close()


def test_asker_that_never_comes_back_is_named(
    asker: Asker, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.deliver.commitment_reporter.TRIES", 2)
    asker.status = 0x0110
    node = Answering(spool, asker.address)
    write_request(spool, "ASKER", REQUEST)
    node.commitments.start()
    figures = node.event("commitment-unanswered")
    assert figures["calling_ae"] == "ASKER"
    assert "0110" in figures["reason"]
    node.commitments.stop()
    assert node.files() == []
    node.worklog.close()


def test_asker_that_is_away_is_called_once_for_all_its_requests_and_not_before_its_time(
    asker: Asker, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def call(address: Address, *_: object, **__: object) -> None:
        calls.append(address.ae_title)
        raise UnreachableError("away")

    monkeypatch.setattr("dicom_node.deliver.commitment_reporter.report_to", call)
    node = Answering(spool, asker.address, backoff=Backoff(first_s=3600.0, cap_s=3600.0))
    for _ in range(3):
        write_request(spool, "ASKER", REQUEST)
    for _ in range(20):  # as when others ask again and again
        node.commitments._answer_all()
    assert calls == ["ASKER"]
    assert len(node.files()) == 3
    node.worklog.close()


def test_request_that_can_not_be_answered_keeps_no_other_waiting(
    asker: Asker, kept: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = CommitmentProvider.commit

    def stumble(provider: CommitmentProvider, request: Request) -> Report:
        if request.transaction_uid == "1.9.2":
            raise RuntimeError
        return commit(provider, request)

    monkeypatch.setattr(CommitmentProvider, "commit", stumble)
    monkeypatch.setattr("dicom_node.receive.commitment_scp.secrets.token_hex", lambda _: next(names))
    names = iter("ab")
    node = Answering(spool, asker.address)
    write_request(spool, "ASKER", Request("1.9.2", (HERE,)))
    write_request(spool, "ASKER", REQUEST)
    node.commitments.start()
    assert [report.transaction_uid for report in asker.wait()] == ["1.9.1"]
    node.commitments.stop()
    assert [path.name for path in node.files()] == ["a.json"]
    node.worklog.close()


def test_request_that_can_not_be_read_now_is_kept(
    asker: Asker, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> bytes:
        raise OSError(24, "Too many open files")

    node = Answering(spool, asker.address)
    write_request(spool, "ASKER", REQUEST)
    monkeypatch.setattr(Path, "read_bytes", unreadable)
    node.commitments._answer_all()
    assert len(node.files()) == 1
    node.worklog.close()


def test_folder_of_requests_that_can_not_be_listed_is_told_and_answers_go_on_when_it_can(
    asker: Asker, kept: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spool.root / "commitments"
    is_bad = threading.Event()
    is_bad.set()

    def watched(real: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def look(path: Any = ".") -> Any:
            if is_bad.is_set() and Path(path) == folder:
                raise OSError(24, "Too many open files")
            return real(path)

        return look

    node = Answering(spool, asker.address)
    name = write_request(spool, "ASKER", REQUEST)
    for call in ("listdir", "scandir"):
        monkeypatch.setattr(os, call, watched(getattr(os, call)))
    node.commitments.start()
    warning = node.event("warning")
    assert warning["name"] == "storage commitment"
    assert warning["reason"].startswith(f"{folder}: can't be listed: Too many open files")
    is_bad.clear()
    node.commitments.asked(name)
    assert asker.wait()[0].committed == (HERE,)
    node.commitments.stop()
    node.worklog.close()


def test_request_of_one_that_is_no_destination_any_more_is_named(asker: Asker, spool: Spool) -> None:
    node = Answering(spool, asker.address)
    write_request(spool, "OTHER", REQUEST)
    (spool.root / "commitments" / "damaged.json").write_text(json.dumps({"asker": 1}))
    node.commitments.start()
    assert "no [[destination]] any more" in node.event("commitment-unanswered")["reason"]
    node.event("warning")
    node.commitments.stop()
    node.worklog.close()


def test_report_on_a_request_that_was_never_made_is_named(asker: Asker, spool: Spool) -> None:
    told: list[Any] = []
    node = Answering(spool, asker.address, lambda *details: bool(told.append(details)))
    node.commitments.reported("PACS", "1.2", ["1.3"], {})
    assert told == [("1.2", ["1.3"], {})]
    assert "PACS reports on a request that was never made" in node.event("warning")["reason"]
    node.worklog.close()
