"""Peers that are slow, greedy or break the protocol."""

from __future__ import annotations

import socket
import struct
import time

import pytest
from pynetdicom import AE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from dicom_node.receive import server
from dicom_node.standard.contexts import IMPLEMENTATION_CLASS_UID

MR = "1.2.840.10008.5.1.4.1.1.4"
COMMAND, LAST = 1, 2
N_ACTION = b"\x30\x01"


@pytest.fixture
def connect():
    """Open connections, and close them at the end."""
    opened = []

    def open_connection(port, send=b""):
        peer = socket.create_connection(("127.0.0.1", port), timeout=20)
        opened.append(peer)
        peer.sendall(send)
        return peer

    yield open_connection
    for peer in opened:
        peer.close()


def association_request(calling="SCU"):
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = calling, "NODE"
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    request.user_information = [length, implementation]
    context = build_context(MR, "1.2.840.10008.1.2.1")
    context.context_id = 1
    request.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return pdu.encode()


def p_data(content, control, context_id=1):
    return struct.pack(">BBLLBB", 4, 0, len(content) + 6, len(content) + 2, context_id, control) + content


def store_command(uid=b"1.2.3.4\0", field=b"\x01\x00"):
    elements = b""
    for element, value in (
        (0x0002, MR.encode() + b"\0"),
        (0x0100, field),
        (0x0110, b"\x07\x00"),
        (0x0700, b"\x00\x00"),
        (0x0800, b"\x00\x00"),
        (0x1000, uid),
    ):
        elements += struct.pack("<HHL", 0, element, len(value)) + value
    return struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements


def read_pdu(peer):
    """Return the type and the content of the next PDU; an empty one when the connection is closed."""
    head = b""
    while len(head) < 6:
        piece = peer.recv(6 - len(head))
        if not piece:
            return 0, b""
        head += piece
    length = int.from_bytes(head[2:], "big")
    content = b""
    while len(content) < length:
        content += peer.recv(length - len(content))
    return head[0], content


def established(connect, port):
    peer = connect(port, association_request())
    assert read_pdu(peer)[0] == 2
    return peer


ACCEPTED, REJECTED, ABORTED, CLOSED = 2, 3, 7, 0


def drip(peer, data, every_s=0.1):
    """Send a byte at a time until the other side has had enough; return the seconds that it took."""
    started = time.monotonic()
    peer.settimeout(every_s)
    for byte in data:
        try:
            peer.sendall(bytes((byte,)))
            if peer.recv(1, socket.MSG_PEEK) is not None:
                break
        except TimeoutError:
            continue
        except OSError:
            break
    peer.settimeout(20)
    return time.monotonic() - started


@pytest.mark.slow
def test_association_request_that_drips_holds_no_connection(start_scp, connect, recorder):
    scp = start_scp(limits={"request_s": 0.5})
    peer = connect(scp.port)
    drip(peer, association_request())
    assert read_pdu(peer)[0] in (ABORTED, CLOSED)
    assert recorder.wait("association_refused") == [("no association request within 0.5 s",)]


@pytest.mark.slow
def test_connection_that_says_nothing_is_closed(start_scp, connect, recorder):
    peer = connect(start_scp(limits={"request_s": 0.3}).port)
    assert read_pdu(peer)[0] in (ABORTED, CLOSED)
    assert recorder.wait("association_refused") == [("no association request within 0.3 s",)]


@pytest.mark.slow
def test_pdu_that_drips_ends_the_association_and_frees_its_place(
    start_scp, connect, associate, recorder, spool
):
    scp = start_scp(max_associations=1, limits={"pdu_s": 0.5})
    peer = established(connect, scp.port)
    peer.sendall(p_data(store_command(), COMMAND | LAST))
    drip(peer, p_data(b"x" * 1000, LAST))
    assert read_pdu(peer)[0] == ABORTED
    assert recorder.wait("association_cut") == [("a PDU took longer than 0.5 s",)]
    recorder.wait("association_ended")
    assert associate(scp.port).is_established
    assert [path.name for path in spool.inbox.iterdir()] == []


@pytest.mark.slow
def test_association_that_says_nothing_is_aborted(start_scp, connect, recorder):
    peer = established(connect, start_scp(limits={"idle_s": 0.3}).port)
    assert read_pdu(peer)[0] == ABORTED
    assert recorder.wait("association_cut") == [("it sent nothing for 0.3 s",)]


@pytest.mark.slow
def test_object_that_comes_in_crumbs_ends_the_association(start_scp, connect, recorder, spool):
    peer = established(connect, start_scp(limits={"object_s": 0.3}).port)
    peer.sendall(p_data(store_command(), COMMAND | LAST))
    peer.settimeout(0.1)
    for _ in range(100):
        try:
            peer.sendall(p_data(b"x", 0))
            peer.recv(1, socket.MSG_PEEK)
            break
        except TimeoutError:
            continue
    peer.settimeout(20)
    assert read_pdu(peer)[0] == ABORTED
    assert recorder.wait("association_cut") == [("an object took longer than 0.3 s",)]
    recorder.wait("association_ended")
    assert list(spool.inbox.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "control", "what"), [(b"", COMMAND, "a command"), (N_ACTION, 0, "a message")]
)
def test_other_message_that_comes_in_crumbs_ends_the_association(
    start_scp, connect, recorder, first, control, what
):
    peer = established(connect, start_scp(limits={"object_s": 0.3}).port)
    if first:
        peer.sendall(p_data(store_command(field=first), COMMAND | LAST))
    peer.settimeout(0.1)
    for _ in range(100):
        try:
            peer.sendall(p_data(b"x", control))
            peer.recv(1, socket.MSG_PEEK)
            break
        except TimeoutError:
            continue
    peer.settimeout(20)
    assert read_pdu(peer)[0] == ABORTED
    assert recorder.wait("association_cut") == [(f"{what} took longer than 0.3 s",)]


def test_object_over_the_limit_is_refused_and_the_next_is_taken(
    start_scp, associate, make_image, recorder, spool
):
    assoc = associate(start_scp(limits={"max_object": 5000}).port)
    answer = assoc.send_c_store(make_image(1, ImageComments="x" * 6000))
    assert answer.Status == 0xA700
    assert "max_object_mb" in answer.ErrorComment
    assert recorder.of("image_refused") == [
        (0xA700, "an object of more than the 0.005 MB of [accept] max_object_mb")
    ]
    assert [path for path in spool.inbox.iterdir() if path.stat().st_size] == []
    assert assoc.send_c_store(make_image(2)).Status == 0x0000


@pytest.mark.slow
def test_pdu_over_the_limit_is_not_read(start_scp, connect, recorder):
    peer = established(connect, start_scp(limits={"max_pdu": 4096}).port)
    peer.sendall(struct.pack(">BBL", 4, 0, 1 << 31))
    assert read_pdu(peer)[0] == ABORTED
    assert recorder.wait("association_cut") == [("a PDU of 2147483648 bytes, 4160 are allowed",)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "pdus",
    [
        [p_data(b"x", 0)],
        [p_data(b"x" * 20, COMMAND | LAST)],
        [p_data(store_command(), COMMAND | LAST, context_id=3)],
        [p_data(store_command(), COMMAND | LAST), p_data(store_command(), COMMAND | LAST)],
        [p_data(store_command(), COMMAND | LAST), p_data(b"x", LAST, context_id=3)],
        [p_data(b"\0\0\0\0\xff\xff\xff\xff", COMMAND | LAST)],
        [struct.pack(">BBLLBB", 4, 0, 6, 99, 1, 3)],
        [struct.pack(">BBL", 4, 0, 3) + b"abc"],
        [p_data(b"y" * 60000, COMMAND)] * 2,
        [struct.pack(">BBL", 4, 0, 6) + struct.pack(">LBB", 0, 1, 3)],
        [struct.pack(">BBL", 9, 0, 0)],
        [association_request()],
    ],
    ids=[
        "data without a command",
        "no command set",
        "another context",
        "a command in a data set",
        "data in another context",
        "an element without an end",
        "an item longer than its PDU",
        "a PDU shorter than an item",
        "a command without an end",
        "an item without a header",
        "a PDU of no known type",
        "a second request",
    ],
)
def test_peer_that_breaks_the_protocol_is_aborted_and_nothing_is_kept(
    pdus, start_scp, connect, associate, recorder, spool
):
    scp = start_scp()
    peer = established(connect, scp.port)
    for pdu in pdus:
        peer.sendall(pdu)
    assert read_pdu(peer)[0] == ABORTED
    recorder.wait("association_ended")
    assert list(spool.inbox.iterdir()) == []
    assert associate(scp.port).send_c_echo().Status == 0x0000


def test_strangers_make_room_for_each_other(start_scp, connect, associate, monkeypatch):
    monkeypatch.setattr(server, "MOST_PENDING", 3)
    scp = start_scp()
    peers = [connect(scp.port) for _ in range(6)]
    for peer in peers[:3]:
        assert read_pdu(peer)[0] == CLOSED
    assert associate(scp.port).send_c_echo().Status == 0x0000


def test_stop_closes_connections_that_have_not_asked_for_anything(start_scp, connect):
    scp = start_scp()
    peer = connect(scp.port)
    peer.sendall(b"\x01")
    connect(scp.port, association_request()).recv(1)  # by then the other one is known
    scp.stop()
    peer.settimeout(5)
    assert read_pdu(peer)[0] == CLOSED


def test_data_set_in_many_small_fragments_is_put_together(start_scp, connect, recorder):
    peer = established(connect, start_scp().port)
    command = store_command()
    stream = p_data(command[:10], COMMAND) + p_data(command[10:], COMMAND | LAST)
    stream += b"".join(p_data(bytes((n,)), 0) for n in range(200)) + p_data(b"", LAST)
    peer.sendall(stream)
    kind, answer = read_pdu(peer)
    assert kind == 4
    assert b"1.2.3.4\0" in answer
    assert recorder.wait("image_stored")[0][0].read_bytes().endswith(bytes(range(200)))


def test_several_requests_in_one_packet_are_each_answered(start_scp, connect, recorder):
    peer = established(connect, start_scp().port)
    one = p_data(store_command(), COMMAND | LAST) + p_data(b"data", LAST)
    peer.sendall(one * 3)
    assert [read_pdu(peer)[0] for _ in range(3)] == [4, 4, 4]
    assert len(recorder.wait("image_stored", 3)) == 3


def test_uid_that_is_too_long_is_kept_and_not_repeated(start_scp, connect, recorder):
    peer = established(connect, start_scp().port)
    uid = b"1." + b"2" * 298
    peer.sendall(p_data(store_command(uid), COMMAND | LAST) + p_data(b"data", LAST))
    assert uid not in read_pdu(peer)[1]
    assert uid in recorder.wait("image_stored")[0][0].read_bytes()


def test_peer_that_takes_no_answer_and_stops_is_not_waited_for(start_scp, connect):
    scp = start_scp()
    peer = established(connect, scp.port)
    peer.sendall(p_data(store_command(), COMMAND | LAST) + p_data(b"x" * 500, 0))
    started = time.monotonic()
    scp.stop()
    assert time.monotonic() - started < 15


@pytest.mark.slow
def test_32_open_associations_take_images(start_scp, recorder, make_image):
    scp = start_scp(max_associations=32)
    ae = AE("SCU")
    ae.add_requested_context(MR, "1.2.840.10008.1.2.1")
    opened = [ae.associate("127.0.0.1", scp.port, ae_title="NODE") for _ in range(32)]
    assert all(assoc.is_established for assoc in opened)
    for number, assoc in enumerate(opened):
        assert assoc.send_c_store(make_image(number + 1)).Status == 0x0000
    for assoc in opened:
        assoc.release()
    assert len(recorder.wait("association_ended", 32)) == 32
