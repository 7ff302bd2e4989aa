"""The receiver over real sockets."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
)

from dicom_node.errors import AddressError, PortTakenError
from dicom_node.spool.inbox import InboxWriter
from dicom_node.spool.spool import Spool
from dicom_node.standard.contexts import VERIFICATION

PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"


def test_acknowledged_image_is_in_the_inbox_as_it_was_sent(start_scp, associate, make_image, recorder, spool):
    scp = start_scp()
    image = make_image(1)
    assoc = associate(scp.port)
    assert assoc.send_c_store(image).Status == 0x0000
    ((path,),) = recorder.of("image_stored")
    stored = dcmread(path)
    assert stored == image
    assert stored.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert stored.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
    assert stored.file_meta.MediaStorageSOPClassUID == MRImageStorage
    assert stored.file_meta.SourceApplicationEntityTitle == "SCU"
    assert path.parent == spool.inbox
    assert path.stat().st_mode & 0o777 == 0o600


def test_echo_is_answered(start_scp, associate):
    assert associate(start_scp().port).send_c_echo().Status == 0x0000


def test_events_tell_one_association_from_its_opening_to_its_end(start_scp, associate, make_image, recorder):
    assoc = associate(start_scp().port)
    for number in (1, 2, 3):
        assoc.send_c_store(make_image(number))
    assoc.release()
    ((images, seconds),) = recorder.wait("association_ended")
    assert images == 3
    assert 0 < seconds < 20
    assert [event for event, _, _ in recorder.calls] == [
        "association_opened",
        "image_stored",
        "image_stored",
        "image_stored",
        "association_ended",
    ]
    (who,) = {association for _, association, _ in recorder.calls}
    assert (who.calling_ae, who.called_ae, who.address) == ("SCU", "NODE", "127.0.0.1")


@pytest.mark.parametrize("way", ["abort", "lost"])
def test_association_that_breaks_off_has_ended_and_keeps_its_images(
    way, start_scp, associate, make_image, recorder
):
    assoc = associate(start_scp().port)
    assert assoc.send_c_store(make_image(1)).Status == 0x0000
    if way == "abort":
        assoc.abort()
    else:
        assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    assert recorder.wait("association_ended")[0][0] == 1
    ((path,),) = recorder.of("image_stored")
    assert path.exists()


def test_stop_ends_open_associations_once_and_frees_the_port(start_scp, associate, recorder):
    scp = start_scp()
    associate(scp.port)
    port = scp.port
    scp.stop()
    assert len(recorder.of("association_ended")) == 1
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def test_receiver_goes_on_when_its_listener_raises(start_scp, associate, make_image, recorder, caplog):
    recorder.raises = RuntimeError
    assoc = associate(start_scp().port)
    assert assoc.send_c_store(make_image(1)).Status == 0x0000
    assert assoc.send_c_store(make_image(2)).Status == 0x0000
    assert len(recorder.of("image_stored")) == 2
    assert "ImageStored could not be handled" in caplog.text


def test_inbox_that_cannot_be_cleared_up_at_the_end_keeps_no_place_and_loses_no_end(
    start_scp, associate, make_image, recorder, monkeypatch, caplog
):
    def read_only(writer):
        raise OSError(errno.EROFS, "Read-only file system")

    scp = start_scp(max_associations=1)
    assoc = associate(scp.port)
    assert assoc.send_c_store(make_image(1)).Status == 0x0000
    monkeypatch.setattr(InboxWriter, "close", read_only)
    assoc.release()
    assert recorder.wait("association_ended")[0][0] == 1
    with scp._here._changed:  # the place is free a moment after the end is told
        assert scp._here._changed.wait_for(lambda: not scp._here._sessions, 20)
    assert associate(scp.port).is_established
    assert "Read-only file system" in caplog.text


def test_over_high_water_answers_a700_and_says_why(tmp_path, start_scp, associate, make_image, recorder):
    full = Spool(tmp_path / "full", high_water=0.0)
    assoc = associate(start_scp(spool=full).port)
    assert assoc.send_c_store(make_image(1)).Status == 0xA700
    ((status, reason),) = recorder.of("image_refused")
    assert status == 0xA700
    assert "disk" in reason
    full.high_water = 1.0
    assert assoc.send_c_store(make_image(1)).Status == 0x0000


def test_failed_write_answers_a_failure_and_keeps_nothing(start_scp, associate, make_image, recorder, spool):
    scp = start_scp()
    spool.inbox.rename(spool.root / "elsewhere")
    assoc = associate(scp.port)
    assert assoc.send_c_store(make_image(1)).Status == 0xC001
    assert [status for status, _ in recorder.of("image_refused")] == [0xC001]


def test_store_without_data_set_is_refused(start_scp, associate, make_image, recorder):
    assoc = associate(start_scp().port)
    empty = make_image(1)
    assert _exchange(assoc, _store_request(empty)) == 0xC000
    assert recorder.of("image_refused") == [(0xC000, "a C-STORE without a data set")]


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_image_is_kept_in_the_encoding_that_it_came_in(syntax, start_scp, associate, make_image, recorder):
    assoc = associate(start_scp().port, {MRImageStorage: [syntax]})
    image = make_image(1)
    # pynetdicom encodes for the accepted context; only the pixels' byte order is the caller's business
    image.file_meta.TransferSyntaxUID = syntax
    assert assoc.send_c_store(image).Status == 0x0000
    ((path,),) = recorder.of("image_stored")
    stored = dcmread(path)
    assert stored.file_meta.TransferSyntaxUID == syntax
    assert stored.InstanceNumber == 1
    assert stored.PixelData == image.PixelData


def test_compressed_private_and_unknown_classes_are_accepted_and_queries_are_not(
    start_scp, associate, make_image
):
    newer_than_registry = "1.2.840.10008.5.1.4.1.1.9999.1"
    patient_root_find = "1.2.840.10008.5.1.4.1.2.1.1"
    assoc = associate(
        start_scp().port,
        {
            MRImageStorage: [JPEG2000Lossless],
            PRIVATE_CLASS: [ExplicitVRLittleEndian],
            newer_than_registry: [ExplicitVRLittleEndian],
            patient_root_find: [ExplicitVRLittleEndian],
        },
    )
    assert {cx.abstract_syntax for cx in assoc.accepted_contexts} == {
        MRImageStorage,
        PRIVATE_CLASS,
        newer_than_registry,
    }
    for uid in (PRIVATE_CLASS, newer_than_registry):
        assert assoc.send_c_store(make_image(1, SOPClassUID=uid)).Status == 0x0000


def test_storage_class_in_an_encoding_that_nobody_knows_is_refused_for_its_encoding(start_scp, associate):
    assoc = associate(start_scp().port, {MRImageStorage: ["1.2.3.4"], VERIFICATION: [ExplicitVRLittleEndian]})
    refused = {cx.abstract_syntax: cx.result for cx in assoc.rejected_contexts}
    assert refused == {MRImageStorage: 0x04}  # PS3.8 table 9-18: transfer syntaxes not supported


def test_uncompressed_syntax_is_preferred_when_one_context_offers_several(start_scp, associate):
    assoc = associate(
        start_scp().port, {MRImageStorage: [JPEG2000Lossless, ImplicitVRLittleEndian, ExplicitVRLittleEndian]}
    )
    assert [cx.transfer_syntax for cx in assoc.accepted_contexts] == [[ExplicitVRLittleEndian]]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("uid", ["../../etc/x", "/etc/passwd", "1.2\\3", "a b;c"])
def test_uid_with_path_characters_stays_in_the_spool(
    uid, start_scp, associate, make_image, recorder, spool, tmp_path
):
    scp = start_scp()
    assoc = associate(scp.port)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    image = make_image(1)
    request = _store_request(image)
    request.AffectedSOPInstanceUID = uid
    assert _exchange(assoc, _with_data(request, image)) == 0x0000
    (new,) = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert new.parent == spool.inbox


def test_taken_port_is_one_clear_error(start_scp):
    port = start_scp().port
    with pytest.raises(PortTakenError, match=rf"port {port} is in use: choose another \[node\] port"):
        start_scp(port=port)


def test_host_that_is_not_ours_is_an_address_error(start_scp):
    with pytest.raises(AddressError, match=r"192\.0\.2\.1"):
        start_scp(host="192.0.2.1")


def test_peer_that_hangs_up_or_talks_nonsense_leaves_the_receiver_working(start_scp, associate, recorder):
    scp = start_scp()
    with socket.create_connection(("127.0.0.1", scp.port)):
        pass
    with socket.create_connection(("127.0.0.1", scp.port)) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert peer.recv(1) == b"\x07"  # A-ABORT
    assert associate(scp.port).send_c_echo().Status == 0x0000
    assert len(recorder.of("association_opened")) == 1


def test_accepted_sockets_send_without_delay(start_scp, associate):
    scp = start_scp()
    associate(scp.port)
    (theirs,) = scp._here._server.active_associations
    assert theirs.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


KILLED = """
import sys
from pathlib import Path
from dicom_node.receive.admission import Admission, Gate
from dicom_node.receive.limits import Limits
from dicom_node.receive.receiver_processes import Receivers
from dicom_node.spool.spool import Spool
from dicom_node.standard.contexts import VERIFICATION

class Silent:
    def __getattr__(self, name):
        return lambda *details: None

scp = Receivers(ae_title="NODE", host="127.0.0.1", port=0, spool=Spool(Path(sys.argv[1]), 1.0), tls=None,
                gate=Gate(Admission(), "NODE"), limits=Limits(), events=Silent(), processes=int(sys.argv[2]))
scp.start()
print(scp.port, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [0, 1])
def test_acknowledged_image_survives_kill_9(processes, tmp_path, associate, make_image):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "data"), str(processes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        text=True,
    ) as process:
        port = int(process.stdout.readline())
        assoc = associate(port)
        assert assoc.send_c_store(make_image(1)).Status == 0x0000
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assoc.abort()
    (path,) = Spool(tmp_path / "data", 1.0).waiting()
    assert dcmread(path) == make_image(1)


def _store_request(image):
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = image.SOPClassUID
    request.AffectedSOPInstanceUID = image.SOPInstanceUID
    request.Priority = 2
    return request


def _exchange(assoc, request):
    """Send a request as it is, and return the status of the answer."""
    assoc._reactor_checkpoint.clear()  # else the reactor takes the answer
    while not assoc._is_paused:
        threading.Event().wait(0.0005)
    assoc.dimse.send_msg(request, assoc.accepted_contexts[0].context_id)
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    return answer.Status


def _with_data(request, image):
    from io import BytesIO

    from pynetdicom.dsutils import encode

    request.DataSet = BytesIO(encode(image, is_implicit_vr=False, is_little_endian=True))
    return request
