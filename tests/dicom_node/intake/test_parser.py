"""Parser processes: what they answer, and what becomes of a file that they die over."""

from __future__ import annotations

import queue
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.errors import NodeError, UnreadableError
from dicom_node.intake import parser
from dicom_node.intake.parser import DeadlyError, Parser, ParserStoppedError, headers_of
from dicom_node.intake.parser_process import Answer, Request, decode_answer, encode_answer
from dicom_node.receive.file_meta import encode_file_meta
from dicom_node.series.headers import ImageHeader, read_header
from dicom_node.spool.in_hand import InHand, Note
from dicom_node.spool.spool import Spool

WAIT_S = 30
MakeImage = Callable[..., Dataset]
Put = Callable[[str, bytes], Path]


@pytest.fixture
def receive(put: Put, make_image: MakeImage) -> Callable[..., Path]:
    """Put an image into the inbox as the receiver does."""

    def put_image(number: int = 1, **elements: object) -> Path:
        file = BytesIO()
        make_image(number, **elements).save_as(file, enforce_file_format=True)
        return put("aaaaaaaaaaaa", file.getvalue())

    return put_image


@pytest.fixture
def processes(spool: Spool) -> Iterator[Parser]:
    processes = Parser(spool)
    yield processes
    processes.stop()


def item_bomb(items: int) -> bytes:
    """Return an object of so many empty sequence items, which a parser takes some 30 us each to read."""
    head = encode_file_meta(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid="1.2.3",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        calling_ae="SCU",
    )
    sequence = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item, end = struct.pack("<HHL", 0xFFFE, 0xE000, 0), struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return bytes(head) + sequence + item * items + end


@pytest.mark.parametrize(
    "answer",
    [True, False, None, UnreadableError("x.dcm: cut off"), OSError(24, "Too many open files", "x.dcm")],
)
def test_answer_is_the_same_after_its_way_between_processes(answer: Answer) -> None:
    found = decode_answer(encode_answer(answer))
    assert (type(found), str(found)) == (type(answer), str(answer))


def test_header_is_what_reading_it_here_gives(
    receive: Callable[..., Path], processes: Parser, spool: Spool
) -> None:
    paths = [receive(number) for number in range(1, 20)]
    answers = processes.ask([Request(path) for path in paths])
    assert [answers[Request(path)] for path in paths] == [
        read_header(path, key=spool.identity_key) for path in paths
    ]


def test_copies_are_compared_and_what_is_no_image_is_told(
    receive: Callable[..., Path], put: Put, processes: Parser, spool: Spool
) -> None:
    first, same, other = receive(1), receive(1, PatientName="Other"), receive(1, seed=7)
    rubbish, gone = put("aaaaaaaaaaaa", b"rubbish"), spool.inbox / "aaaaaaaaaaaa-999999.dcm"
    questions = [Request(same, first), Request(other, first), Request(rubbish), Request(gone)]
    answers = processes.ask(questions)
    assert [answers[one] for one in questions[:2]] == [True, False]
    assert str(answers[questions[2]]) == f"{rubbish.name}: not a DICOM file"
    assert answers[questions[3]] is None
    assert [path for path, _ in headers_of(processes, [gone, rubbish, first])] == [rubbish, first]


@pytest.mark.slow
def test_file_that_takes_too_long_is_given_up_after_two_processes_and_the_others_are_read(
    receive: Callable[..., Path], put: Put, processes: Parser, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser, "PROCESSOR_S", 0)
    bomb, image = put("aaaaaaaaaaaa", item_bomb(200_000)), receive(1)
    processes = Parser(spool)
    answers = processes.ask([Request(bomb), Request(image)])
    processes.stop()
    refused = answers[Request(bomb)]
    assert isinstance(refused, DeadlyError)
    assert str(refused) == (
        f"{bomb.name}: 2 processes ended that had it in hand: it took more than 0 s of processor time"
    )
    assert isinstance(answers[Request(image)], ImageHeader)
    assert InHand(spool).reasons(f"inbox/{bomb.name}") == ("it took more than 0 s of processor time",) * 2


@pytest.mark.slow
def test_file_that_takes_long_is_told_later_and_the_others_go_on(
    receive: Callable[..., Path], put: Put, processes: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.ask([Request(receive(1))])
    monkeypatch.setattr(parser, "PATIENCE_S", 0.3)
    slow, image = Request(put("aaaaaaaaaaaa", item_bomb(200_000))), Request(receive(2))
    told: queue.Queue[tuple[Request, Answer]] = queue.Queue()
    answers = processes.ask([slow, image], lambda *late: told.put(late))
    assert list(answers) == [image]
    assert told.empty()
    request, answer = told.get(timeout=WAIT_S)
    assert request == slow
    assert str(answer) == f"{slow.path.name}: SOPClassUID is missing"


@pytest.mark.slow
def test_file_that_takes_too_much_memory_is_given_up(
    receive: Callable[..., Path], put: Put, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser, "MEMORY_MB", 20)
    bomb, image = put("aaaaaaaaaaaa", item_bomb(200_000)), receive(1)
    processes = Parser(spool)
    answers = processes.ask([Request(bomb), Request(image)])
    processes.stop()
    assert "it took more than 20 MB of memory" in str(answers[Request(bomb)])
    assert isinstance(answers[Request(image)], ImageHeader)


def test_file_that_a_node_died_over_is_tried_once_more(receive: Callable[..., Path], spool: Spool) -> None:
    path = receive(1)
    name = f"inbox/{path.name}"
    Note(InHand(spool).note_path(1)).write(name)
    processes = Parser(spool)  # of the next start
    assert InHand(spool).reasons(name) == ("the node ended while it was read",)
    assert isinstance(processes.ask([Request(path)])[Request(path)], ImageHeader)
    processes.stop()
    assert InHand(spool).reasons(name) == ()


def test_file_that_two_nodes_died_over_is_not_read_again(
    receive: Callable[..., Path], spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = receive(1)
    for _ in range(2):
        Note(InHand(spool).note_path(1)).write(f"inbox/{path.name}")
    monkeypatch.setattr(parser.subprocess, "Popen", lambda *_: pytest.fail("it was read"))
    processes = Parser(spool)
    assert isinstance(processes.ask([Request(path)])[Request(path)], DeadlyError)
    processes.stop()


def test_deaths_over_files_that_are_gone_are_forgotten(receive: Callable[..., Path], spool: Spool) -> None:
    path = receive(1)
    InHand(spool).count(f"inbox/{path.name}", "signal 11")
    path.unlink()
    assert InHand(spool).reasons(f"inbox/{path.name}") == ()


def test_deaths_over_a_file_that_was_set_aside_are_forgotten_with_the_next_death(
    receive: Callable[..., Path], spool: Spool
) -> None:
    first, second = receive(1), receive(2)
    in_hand = InHand(spool)
    in_hand.count(f"inbox/{first.name}", "signal 11")
    first.unlink()
    assert in_hand.count(f"inbox/{second.name}", "signal 9") == 1
    assert in_hand.reasons(f"inbox/{first.name}") == ()


def test_damaged_word_of_deaths_counts_anew(spool: Spool) -> None:
    InHand(spool)
    (spool.root / "in-hand" / "deaths.json").write_text("[1")
    assert InHand(spool).reasons("inbox/x.dcm") == ()


def test_process_that_was_killed_with_nothing_in_hand_is_replaced(
    receive: Callable[..., Path], processes: Parser
) -> None:
    path = receive(1)
    processes.ask([Request(path)])
    processes._processes[0].signal()
    assert isinstance(processes.ask([Request(path)])[Request(path)], ImageHeader)


def test_process_is_replaced_after_many_requests(
    receive: Callable[..., Path], processes: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser, "REQUESTS", 2)
    paths = [receive(number) for number in (1, 2, 3)]
    processes.ask([Request(path) for path in paths])
    assert processes._processes[0]._process is None


def test_processes_that_do_not_start_are_told(
    receive: Callable[..., Path], processes: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser.sys, "executable", "/bin/false")
    with pytest.raises(NodeError, match="no parser process can be started: status 1; the journal says more"):
        processes.ask([Request(receive(1))])


def test_stop_ends_a_process_that_is_at_work(put: Put, processes: Parser) -> None:
    slow = Request(put("aaaaaaaaaaaa", item_bomb(200_000)))
    processes.ask([slow], lambda *_: pytest.fail("it was stopped"))
    processes.stop()
    with pytest.raises(ParserStoppedError):
        processes.ask([slow])


def test_parser_process_gets_by_without_what_the_workers_need() -> None:
    import subprocess
    import sys

    code = (
        "import sys, dicom_node.intake.parser_process; print([m for m in sys.argv[1:] if m in sys.modules])"
    )
    heavy = ["torch", "highdicom", "pynetdicom", "sqlalchemy", "celery", "typer"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
