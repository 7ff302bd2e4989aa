import socket
import threading

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import SegmentationStorage, StudyRootQueryRetrieveInformationModelFind

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import UnreachableError
from dicom_node.deliver.c_find import FindBrokenError, FindRefusedError, Instance, c_find_missing
from dicom_node.receive import message_bounds


def ask(pacs, *objects, **options):
    return c_find_missing(pacs.address, "NODE", [Instance(*item) for item in objects], **options)


def test_what_is_shown_is_not_missing(make_pacs):
    pacs = make_pacs()
    pacs.held = {"1.1": ("1", "1.0"), "1.2": ("1", "1.0"), "2.1": ("1", "2.0")}
    assert ask(pacs, ("1", "1.0", "1.1"), ("1", "1.0", "1.2"), ("1", "2.0", "2.1")) == set()
    assert pacs.finds == 2
    assert ask(pacs, ("1", "1.0", "1.1"), ("1", "2.0", "2.9"), ("9", "1.0", "1.2")) == {"2.9", "1.2"}


def test_list_that_the_peer_cuts_is_completed_one_by_one(make_pacs):
    pacs = make_pacs()
    pacs.held = {f"1.{n}": ("1", "1.0") for n in range(5)}
    listed = []

    def cut(uid):
        listed.append(uid)
        return len(listed) not in (3, 4, 5)

    pacs.visible = cut
    assert ask(pacs, *(("1", "1.0", f"1.{n}") for n in range(5))) == set()
    assert pacs.finds == 1 + 3


def test_single_object_that_is_matched_down_to_the_series_only(make_pacs, quick):
    """The peer fails on a SOP Instance UID as key, and lists the series."""

    def answer(event):
        if event.identifier.get("SOPInstanceUID"):
            yield 0xC001, None
            return
        ds = Dataset()
        ds.SOPInstanceUID = "1.1"
        yield 0xFF00, ds

    ae = AE("PACS")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    address = Address("PACS", "127.0.0.1", server.socket.getsockname()[1])
    assert c_find_missing(address, "NODE", [Instance("1", "1.0", "1.1")], timeouts=quick) == set()
    server.shutdown()


def test_peer_without_c_find_can_give_no_proof(make_pacs):
    with pytest.raises(FindRefusedError, match="offers no C-FIND"):
        ask(make_pacs(find=False, classes=[SegmentationStorage]), ("1", "1.0", "1.1"))


def test_peer_that_refuses_the_question_can_give_no_proof(make_pacs):
    pacs = make_pacs()
    pacs.find_status = 0xA900
    with pytest.raises(FindRefusedError, match="A900"):
        ask(pacs, ("1", "1.0", "1.1"))


def test_peer_without_resources_is_asked_later(make_pacs):
    pacs = make_pacs()
    pacs.find_status = 0xA700
    with pytest.raises(FindBrokenError, match="A700"):
        ask(pacs, ("1", "1.0", "1.1"))


def test_dead_peer_is_not_one_without_c_find(closed_port, quick):
    with pytest.raises(UnreachableError, match="connection refused"):
        c_find_missing(
            Address("PACS", "127.0.0.1", closed_port), "NODE", [Instance("1", "1.0", "1.1")], timeouts=quick
        )


def answering(identifier):
    """Start a peer that answers every question with one identifier."""

    def answer(event):
        yield 0xFF00, identifier

    ae = AE("PACS")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    return server, Address("PACS", "127.0.0.1", server.socket.getsockname()[1])


@pytest.mark.slow
def test_answer_that_is_too_long_ends_the_association(quick, monkeypatch, caplog):
    monkeypatch.setattr(message_bounds, "MESSAGE_BYTES", 100_000)
    ds = Dataset()
    ds.add_new(0x00091010, "UN", bytes(200_000))
    server, address = answering(ds)
    with pytest.raises(FindBrokenError, match="it broke off"):
        c_find_missing(address, "NODE", [Instance("1", "1.0", "1.1")], timeouts=quick)
    server.shutdown()
    assert "the peer answered with a message of more than 100000 bytes" in caplog.text


@pytest.mark.slow
def test_answer_of_too_many_items_ends_the_association(quick, monkeypatch):
    monkeypatch.setattr(message_bounds, "MESSAGE_ITEMS", 10)
    ds = Dataset()
    ds.ReferencedStudySequence = [Dataset() for _ in range(11)]
    server, address = answering(ds)
    with pytest.raises(FindBrokenError, match="it broke off"):
        c_find_missing(address, "NODE", [Instance("1", "1.0", "1.1")], timeouts=quick)
    server.shutdown()


def test_pdu_that_is_too_long_is_not_read(quick):
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", 0))
        peer.listen()

        def answer():
            connection, _ = peer.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"\x02\x00" + (1 << 31).to_bytes(4, "big") + bytes(1000))
                connection.recv(1 << 16)

        thread = threading.Thread(target=answer)
        thread.start()
        address = Address("PACS", "127.0.0.1", peer.getsockname()[1])
        with pytest.raises(UnreachableError):
            c_find_missing(address, "NODE", [Instance("1", "1.0", "1.1")], timeouts=quick)
        thread.join(30)
