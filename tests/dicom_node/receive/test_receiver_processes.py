"""Receiver processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from dicom_node.errors import PortTakenError
from dicom_node.receive.channel import Channel
from dicom_node.receive.process_messages import Ready


def until(condition):
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def receivers():
    """The receiver processes of this test, that is, the children that were given a socket."""
    return [
        child
        for child in psutil.Process().children()
        if child.is_running() and "dicom_node.receive.receiver_process" in child.cmdline()
    ]


def test_events_come_from_another_process_as_from_this_one(start_scp, associate, make_image, recorder, spool):
    scp = start_scp(processes=1)
    assoc = associate(scp.port)
    assert assoc.send_c_store(make_image(1)).Status == 0x0000
    assoc.release()
    ((images, seconds),) = recorder.wait("association_ended")
    assert images == 1
    assert seconds > 0
    assert [name for name, _, _ in recorder.calls] == [
        "association_opened",
        "image_stored",
        "association_ended",
    ]
    (who,) = {association for _, association, _ in recorder.calls}
    assert (who.calling_ae, who.called_ae, who.address) == ("SCU", "NODE", "127.0.0.1")
    ((path,),) = recorder.of("image_stored")
    assert list(spool.inbox.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_limits_count_over_all_processes(start_scp, associate, recorder):
    scp = start_scp(processes=3, max_associations=4)
    opened = [associate(scp.port) for _ in range(6)]
    assert sorted(assoc.is_established for assoc in opened) == [False] * 2 + [True] * 4
    assert recorder.wait("association_refused", 2)[0] == ("4 associations are open, the limit is 4",)
    next(assoc for assoc in opened if assoc.is_established).release()
    recorder.wait("association_ended")
    until(lambda: associate(scp.port).is_established)  # the place is free a moment after the end is told


@pytest.mark.slow
def test_process_that_is_killed_is_replaced_and_its_associations_are_accounted_for(
    start_scp, associate, make_image, recorder, spool
):
    scp = start_scp(processes=1, max_associations=1)
    assoc = associate(scp.port)
    assert assoc.send_c_store(make_image(1)).Status == 0x0000
    (process,) = receivers()
    process.send_signal(signal.SIGKILL)
    assert recorder.wait("association_ended")[0][0] == 1
    ((path,),) = recorder.of("image_stored")
    assert list(spool.inbox.iterdir()) == [path]
    again = associate(scp.port)
    assert again.send_c_store(make_image(2)).Status == 0x0000
    recorder.wait("image_stored", 2)


@pytest.mark.slow
def test_process_that_dies_at_every_start_is_named_until_it_receives(
    start_scp, associate, recorder, monkeypatch
):
    popen = subprocess.Popen
    fails = threading.Event()
    fails.set()

    def start(command, **options):
        return popen([sys.executable, "-c", "raise SystemExit(3)"] if fails.is_set() else command, **options)

    monkeypatch.setattr("dicom_node.receive.receiver_processes.subprocess.Popen", start)
    monkeypatch.setattr("dicom_node.receive.receiver_processes.REPLACE_AFTER_S", 0.1)
    scp = start_scp(processes=1)
    until(lambda: list(scp.troubles()))
    assert next(iter(scp.troubles())).startswith(
        "receiver process 1 of 1 does not receive: it ended with status 3"
    )
    time.sleep(1.0)  # dies again and again
    assert [reason for name, reason, _ in recorder.calls if name == "receiver_lost"] == [
        "1 ended with status 3, and is started again"
    ]
    fails.clear()
    until(lambda: not list(scp.troubles()))
    assert associate(scp.port).is_established


@pytest.mark.slow
def test_process_that_says_what_nobody_understands_is_replaced(start_scp, associate, recorder, monkeypatch):
    monkeypatch.setattr("dicom_node.receive.receiver_processes.REPLACE_AFTER_S", 0.1)
    broken = iter([True])
    receive = Channel.receive

    def once_garbled(channel):
        message = receive(channel)
        if message == Ready() and next(broken, False):
            raise ValueError("cut off")
        return message

    monkeypatch.setattr(Channel, "receive", once_garbled)
    scp = start_scp(processes=1)
    until(lambda: list(scp.troubles()))
    until(lambda: not list(scp.troubles()))
    assert associate(scp.port).is_established


@pytest.mark.slow
def test_image_that_a_killed_process_told_nobody_of_is_found(
    start_scp, associate, make_image, recorder, spool, monkeypatch
):
    scp = start_scp(processes=1)
    assoc = associate(scp.port)
    assert assoc.send_c_store(make_image(1)).Status == 0x0000
    ((first,),) = recorder.wait("image_stored")
    # As if it had died between the file's last step and the line to the node.
    second = first.with_name(first.name.replace("000001", "000002"))
    writer = spool.inbox_writer("0123456789ab")
    writer.begin(first.read_bytes())
    writer.finish().rename(second.with_suffix(".part"))
    writer.close()
    (process,) = receivers()
    process.send_signal(signal.SIGKILL)
    recorder.wait("association_ended")
    assert recorder.of("image_stored") == [(first,), (second,)]
    assert recorder.of("association_ended")[0][0] == 2


@pytest.mark.slow
def test_killed_process_frees_its_places_where_the_inbox_cannot_be_sorted_out(
    start_scp, associate, recorder, spool, monkeypatch, caplog
):
    def read_only(association=""):
        raise OSError(errno.EROFS, "Read-only file system")

    scp = start_scp(processes=1, max_associations=1)
    assert associate(scp.port).is_established
    monkeypatch.setattr(spool, "recover", read_only)
    (process,) = receivers()
    process.send_signal(signal.SIGKILL)
    assert recorder.wait("association_ended")[0][0] == 0
    until(lambda: associate(scp.port).is_established)
    assert "Read-only file system" in caplog.text


@pytest.mark.slow
def test_port_is_bound_once_and_free_after_the_stop(start_scp):
    scp = start_scp(processes=2)
    port = scp.port
    with pytest.raises(PortTakenError):
        start_scp(port=port, processes=2)
    scp.stop()
    assert receivers() == []
    assert start_scp(port=port).port == port


@pytest.mark.slow
def test_stop_aborts_and_reports_what_is_open(start_scp, associate, recorder):
    scp = start_scp(processes=1)
    assoc = associate(scp.port)
    scp.stop()
    assert len(recorder.of("association_ended")) == 1
    assoc.join(20)
    assert assoc.is_aborted


def test_listener_that_raises_stops_nothing(start_scp, associate, make_image, recorder, caplog):
    recorder.raises = RuntimeError
    assoc = associate(start_scp(processes=1).port)
    assert assoc.send_c_store(make_image(1)).Status == 0x0000
    assert assoc.send_c_store(make_image(2)).Status == 0x0000
    recorder.wait("image_stored", 2)
    assert "ImageStored could not be handled" in caplog.text


def test_ctrl_c_for_the_group_leaves_the_end_to_the_node(start_scp, associate, make_image):
    scp = start_scp(processes=1)
    assoc = associate(scp.port)
    (process,) = receivers()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(process.pid, number)
    assert assoc.send_c_store(make_image(1)).Status == 0x0000


@pytest.mark.slow
def test_many_associations_at_once_over_two_processes(start_scp, associate, make_image, recorder, spool):
    scp = start_scp(processes=2)

    def send(number):
        assoc = associate(scp.port)
        for image in range(5):
            assert assoc.send_c_store(make_image(number * 10 + image)).Status == 0x0000
        assoc.release()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ends = recorder.wait("association_ended", 6)
    assert [images for images, _ in ends] == [5] * 6
    assert len(spool.waiting()) == 30
