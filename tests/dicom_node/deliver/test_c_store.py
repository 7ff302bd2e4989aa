import hashlib
import socket
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    Verification,
)

from dicom_node.deliver.address import Address
from dicom_node.deliver.c_echo import echo
from dicom_node.deliver.c_store import Outcome, outcome_of, send_files
from dicom_node.deliver.payload import MAX_CONTEXTS, Payload, batches
from dicom_node.errors import DeliveryError


def sha(data):
    return hashlib.sha256(data).hexdigest()


def test_sends_the_bytes_of_the_file(make_pacs, make_object, dataset_bytes, tmp_path):
    pacs = make_pacs()
    path = tmp_path / "a.dcm"
    uid = make_object(path, SegmentationStorage, fill=bytes(range(256)) * 4000)
    seen = []
    results = send_files(pacs.address, [path], "NODE", seen.append)
    assert [(r.path, r.outcome, r.status, r.reason) for r in results] == [(path, Outcome.STORED, 0, "")]
    assert seen == results
    assert pacs.received == [(uid, sha(dataset_bytes(path)), ExplicitVRLittleEndian)]
    assert pacs.calling == ["NODE"]


def test_small_packets_leave_at_once(make_pacs, make_object, tmp_path, monkeypatch):
    options = []
    original = socket.socket.setsockopt
    monkeypatch.setattr(
        socket.socket, "setsockopt", lambda self, *args: (options.append(args), original(self, *args))[1]
    )
    echo(make_pacs().address, "NODE")
    assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in options


def test_transcodes_for_a_peer_that_takes_implicit_only(make_pacs, make_object, dataset_bytes, tmp_path):
    pacs = make_pacs(syntaxes=[ImplicitVRLittleEndian])
    explicit, implicit = tmp_path / "explicit.dcm", tmp_path / "implicit.dcm"
    make_object(explicit, SecondaryCaptureImageStorage, fill=b"1234")
    before = explicit.read_bytes()
    ds = dcmread(explicit)
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.save_as(implicit, implicit_vr=True, little_endian=True)
    for _ in range(2):
        [result] = send_files(pacs.address, [explicit], "NODE")
        assert result.outcome is Outcome.STORED
    expected = (str(ds.SOPInstanceUID), sha(dataset_bytes(implicit)), ImplicitVRLittleEndian)
    assert pacs.received == [expected, expected]
    assert explicit.read_bytes() == before


def test_compressed_file_that_the_peer_does_not_take_is_refused_by_name(make_pacs, make_object, tmp_path):
    pacs = make_pacs()
    packed, plain = tmp_path / "packed.dcm", tmp_path / "plain.dcm"
    make_object(packed, SecondaryCaptureImageStorage, syntax=JPEG2000Lossless)
    make_object(plain, SecondaryCaptureImageStorage)
    results = send_files(pacs.address, [packed, plain], "NODE")
    assert [r.outcome for r in results] == [Outcome.CLASS_REFUSED, Outcome.STORED]
    assert "JPEG 2000" in results[0].reason


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, Outcome.STORED),
        (0xB000, Outcome.WARNING),
        (0xB006, Outcome.WARNING),
        (0xB007, Outcome.WARNING),
        (0x0111, Outcome.WARNING),
        (0xA700, Outcome.RETRY),
        (0xA7FF, Outcome.RETRY),
        (0x0110, Outcome.RETRY),
        (0x0122, Outcome.CLASS_REFUSED),
        (0xA900, Outcome.FAILED),
        (0xC000, Outcome.FAILED),
        (0xC123, Outcome.FAILED),
        (0x0124, Outcome.FAILED),
    ],
)
def test_statuses_are_classified(status, outcome):
    assert outcome_of(status) is outcome


def test_class_without_context_is_refused_and_the_others_arrive(make_pacs, make_object, tmp_path):
    pacs = make_pacs(classes=[BasicTextSRStorage])
    seg, text = tmp_path / "seg.dcm", tmp_path / "text.dcm"
    make_object(seg, SegmentationStorage)
    uid = make_object(text, BasicTextSRStorage)
    results = send_files(pacs.address, [seg, text], "NODE")
    assert [r.outcome for r in results] == [Outcome.CLASS_REFUSED, Outcome.STORED]
    assert results[0].reason == "Segmentation Storage is not accepted"
    assert list(pacs.held) == [uid]


def test_peer_that_takes_no_class_refuses_all(make_pacs, make_object, tmp_path):
    pacs = make_pacs(classes=[BasicTextSRStorage])
    path = tmp_path / "seg.dcm"
    make_object(path, SegmentationStorage)
    assert [r.outcome for r in send_files(pacs.address, [path], "NODE")] == [Outcome.CLASS_REFUSED]


def test_broken_association_leaves_the_rest_for_later(make_pacs, make_object, tmp_path):
    pacs = make_pacs()
    paths = [tmp_path / f"{n}.dcm" for n in range(3)]
    uids = [make_object(path, SegmentationStorage) for path in paths]
    pacs.before_store = lambda event: (
        event.assoc.abort() if event.request.AffectedSOPInstanceUID == uids[1] else None
    )
    results = send_files(pacs.address, paths, "NODE")
    assert [r.outcome for r in results] == [Outcome.STORED, Outcome.RETRY, Outcome.RETRY]
    assert [r.attempted for r in results] == [True, True, False]


@pytest.mark.slow
def test_no_answer_in_time_is_to_be_tried_again(make_pacs, make_object, tmp_path, quick):
    import threading

    pacs = make_pacs()
    free = threading.Event()
    pacs.before_store = lambda event: free.wait(10)
    path = tmp_path / "a.dcm"
    make_object(path, SegmentationStorage)
    [result] = send_files(pacs.address, [path], "NODE", timeouts=quick)
    free.set()
    assert result.outcome is Outcome.RETRY
    assert "no answer in time" in result.reason


def test_unreadable_files_do_not_hinder_the_others(make_pacs, make_object, tmp_path):
    pacs = make_pacs()
    good, text, cut = tmp_path / "good.dcm", tmp_path / "notes.txt", tmp_path / "cut.dcm"
    make_object(good, SegmentationStorage)
    text.write_text("no DICOM")
    cut.write_bytes(good.read_bytes()[:150])
    results = send_files(pacs.address, [text, good, cut, tmp_path / "none.dcm"], "NODE")
    assert {r.path.name: r.outcome for r in results} == {
        "notes.txt": Outcome.FAILED,
        "cut.dcm": Outcome.FAILED,
        "none.dcm": Outcome.FAILED,
        "good.dcm": Outcome.STORED,
    }
    assert "notes.txt: not a DICOM file" in results[0].reason


def test_file_that_can_not_be_read_to_its_end_fails(make_pacs, make_object, tmp_path, monkeypatch):
    from dicom_node.deliver import c_store as scu

    pacs = make_pacs()
    bad, good = tmp_path / "bad.dcm", tmp_path / "good.dcm"
    make_object(bad, SegmentationStorage)
    make_object(good, SegmentationStorage)
    inspect = scu.inspect

    def inspect_and_lose(path):
        payload = inspect(path)
        if path == bad:
            bad.unlink()
        return payload

    monkeypatch.setattr(scu, "inspect", inspect_and_lose)
    results = send_files(pacs.address, [bad, good], "NODE")
    assert [(r.outcome, r.attempted) for r in results] == [(Outcome.FAILED, True), (Outcome.RETRY, False)]
    assert results[0].reason == "bad.dcm can't be read: No such file or directory"


def test_contexts_beyond_128_need_another_association():
    payloads = [
        Payload(Path(f"{n}"), UID(f"1.2.{n}"), UID(f"1.{n}"), ExplicitVRLittleEndian) for n in range(65)
    ]
    packed = Payload(Path("x"), UID("1.2.9"), UID("1.9"), JPEG2000Lossless)
    cut = list(batches([*payloads, packed]))
    assert [len(batch) for batch, _ in cut] == [64, 2]
    assert [len(contexts) for _, contexts in cut] == [MAX_CONTEXTS, 3]


def test_echo_gives_the_seconds(make_pacs):
    assert 0 < echo(make_pacs().address, "NODE") < 5


def test_echo_names_a_host_that_is_not_found(quick):
    with pytest.raises(DeliveryError, match=r"host 'no-such-host\.invalid' not found"):
        echo(Address("PACS", "no-such-host.invalid", 104), "NODE", timeouts=quick)


def test_echo_names_a_refused_connection(closed_port, quick):
    with pytest.raises(DeliveryError, match=rf"PACS@127\.0\.0\.1:{closed_port}: connection refused"):
        echo(Address("PACS", "127.0.0.1", closed_port), "NODE", timeouts=quick)


@pytest.mark.slow
def test_echo_names_a_silent_host(silent_port, quick):
    with pytest.raises(DeliveryError, match="answered no association within 1 s"):
        echo(Address("PACS", "127.0.0.1", silent_port), "NODE", timeouts=quick)


def test_echo_names_a_peer_that_goes_by_another_title(make_pacs):
    address = make_pacs().address
    with pytest.raises(DeliveryError, match="does not go by the AE title OTHER"):
        echo(Address("OTHER", address.host, address.port), "NODE")


def test_echo_names_a_peer_that_does_not_know_us(make_pacs):
    pacs = make_pacs()
    pacs.ae.require_calling_aet = ["SOMEBODY"]
    with pytest.raises(DeliveryError, match="does not know our AE title NODE: enter it there"):
        echo(pacs.address, "NODE")


def test_echo_names_a_port_that_is_not_dicom():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        import threading

        def hang_up():
            peer, _ = server.accept()
            peer.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(DeliveryError, match="is that a DICOM port"):
            echo(Address("PACS", "127.0.0.1", server.getsockname()[1]), "NODE")
        thread.join()


def test_echo_names_a_status_that_is_no_success():
    ae = AE("PACS")
    ae.add_supported_context(Verification)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda event: 0x0122)]
    )
    with pytest.raises(DeliveryError, match="C-ECHO with 0122 SOP class not supported"):
        echo(Address("PACS", "127.0.0.1", server.socket.getsockname()[1]), "NODE")
    server.shutdown()


def test_comprehensive_3d_sr_is_offered(make_pacs, make_object, tmp_path):
    pacs = make_pacs()
    path = tmp_path / "sr.dcm"
    uid = make_object(path, Comprehensive3DSRStorage)
    send_files(pacs.address, [path], "NODE")
    assert list(pacs.held) == [uid]
