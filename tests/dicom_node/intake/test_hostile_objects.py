"""Objects that ask for gigabytes or minutes: the node's own process gives neither, and the other images are filed."""

from __future__ import annotations

import queue
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.intake import parser
from dicom_node.intake.filing import FiledImage, Filer
from dicom_node.intake.parser import Parser
from dicom_node.receive.association import Association
from dicom_node.receive.file_meta import encode_file_meta
from dicom_node.spool.spool import Spool
from tests.dicom_node.conftest import put_file
from tests.dicom_node.intake.test_parser import item_bomb

pytestmark = pytest.mark.slow

A = Association(id="aaaaaaaaaaaa", calling_ae="SCU", address="127.0.0.1", called_ae="NODE")
MB = 1_000_000
WAIT_S = 120


@pytest.fixture
def told() -> queue.Queue[Any]:
    return queue.Queue()


def make_filer(spool: Spool, told: queue.Queue[Any]) -> Filer:
    def filed(batch: list[FiledImage]) -> None:
        for image in batch:
            told.put(image.header.instance_number)

    return Filer(spool, filed, lambda *rejected: told.put(rejected), told.put, Parser(spool))


@pytest.fixture
def receive(spool: Spool, make_image: Callable[..., Any], tmp_path: Path) -> Callable[[int], Path]:
    def put(number: int) -> Path:
        make_image(number).save_as(tmp_path / "x.dcm", enforce_file_format=True)
        return put_file(spool, A.id, (tmp_path / "x.dcm").read_bytes())

    return put


def deflate_bomb() -> bytes:
    """Return 1.5 MB that inflate to 1.5 GB."""
    head = encode_file_meta(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid="1.2.3",
        transfer_syntax_uid=DeflatedExplicitVRLittleEndian,
        calling_ae="SCU",
    )
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [packer.compress(struct.pack("<HH2sHL", 0x0009, 0x1010, b"UN", 0, 1500 * MB))]
    zeros = bytes(MB)
    parts += [packer.compress(zeros) for _ in range(1500)]
    return bytes(head) + b"".join(parts) + packer.flush()


def test_megabyte_that_inflates_to_gigabytes_takes_neither_memory_nor_the_filing(
    spool: Spool, receive: Callable[[int], Path], told: queue.Queue[Any]
) -> None:
    filer = make_filer(spool, told)
    filer.start()
    content = deflate_bomb()
    bomb = put_file(spool, A.id, content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    filer.put(A, bomb)
    filer.put(A, receive(1))
    filer.association_ended(A)
    found = [told.get(timeout=WAIT_S) for _ in range(3)]
    assert found[-1] == A
    (rejected,) = [one for one in found if isinstance(one, tuple)]
    assert "its data set inflates to more than 64 MB" in rejected[1]
    assert 1 in found
    assert rejected[2].read_bytes() == content
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000 < 100
    filer.stop()


def test_file_that_no_process_survives_is_set_aside_with_its_reason_while_others_are_filed(
    spool: Spool, told: queue.Queue[Any], receive: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser, "PROCESSOR_S", 1)
    filer = make_filer(spool, told)
    filer.start()
    bomb = put_file(spool, A.id, item_bomb(300_000))
    filer.put(A, bomb)
    filer.put(A, receive(1))
    filer.association_ended(A)
    first, second, third = (told.get(timeout=WAIT_S) for _ in range(3))
    assert (first, third) == (1, A)
    assert second[1] == (
        f"{bomb.name}: 2 processes ended that had it in hand: it took more than 1 s of processor time"
    )
    assert second[2].parent == spool.quarantine
    assert spool.waiting() == []
    filer.stop()
