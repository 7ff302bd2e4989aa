"""The parts of a search that need no network: gate, choice, window, requests, multipart, the record of a search."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.config.sections import PriorsSection
from dicom_node.deliver.address import Address
from dicom_node.deliver.association import Timeouts
from dicom_node.errors import PriorError
from dicom_node.priors.again import AskAgainError
from dicom_node.priors.archive import Archive
from dicom_node.priors.c_get import get_contexts
from dicom_node.priors.choose import candidates, is_flair_by_times, verdicts_on
from dicom_node.priors.examination import Examination, date_of
from dicom_node.priors.find import SeriesFound, StudyFound
from dicom_node.priors.gate import identity_refusal, time_refusal
from dicom_node.priors.wado import MultipartError, NotThereError, opened, parts
from dicom_node.priors.window import opens_in_s
from dicom_node.series.identity import Identity
from dicom_node.spool.prior_requests import FORGOTTEN_AFTER_S, PriorRequests
from dicom_node.spool.prior_searches import MOST_STEPS, PriorSearch, forget_search, read_search, write_search
from dicom_node.spool.spool import Spool

JANE = Identity(patient_id="p", issuer="i", birth_date="b", name="n", sex="f")
SECTION = PriorsSection()
PRESENT = Examination("j", "flair", "1.1", "1.1.1", JANE, date(2026, 3, 1), frozenset(), "t2_flair_tra", 48)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({}, ""),
        ({"name": "another"}, ""),
        ({"issuer": ""}, ""),
        ({"sex": ""}, ""),
        ({"patient_id": "q"}, "patient ID differs"),
        ({"patient_id": ""}, "patient ID missing"),
        ({"birth_date": "c"}, "birth date differs"),
        ({"birth_date": ""}, "birth date missing"),
        ({"issuer": "k"}, "issuer of patient ID differs"),
        ({"sex": "m"}, "sex differs"),
    ],
)
def test_gate_lets_the_same_person_through_alone(other: Mapping[str, str], reason: str) -> None:
    them = Identity(**{**vars(JANE), **other})
    assert identity_refusal(JANE, them) == reason
    assert identity_refusal(them, JANE) == reason
    if "issuer" in other:
        assert identity_refusal(JANE, them, ignore_issuer=True) == ""


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        (date(2026, 2, 1), ""),
        (date(2026, 2, 2), "fewer than min_days = 28 days earlier"),
        (date(2026, 3, 2), "fewer than min_days = 28 days earlier"),
        (date(2021, 3, 1), ""),
        (date(2021, 2, 27), "older than max_age_years = 5"),
        (None, "no date of the study"),
    ],
)
def test_study_must_be_old_enough_and_not_too_old(day: date | None, reason: str) -> None:
    assert time_refusal(PRESENT, day, SECTION) == reason


@pytest.mark.parametrize("text", ["", "2026", "20261301", "20260230", "x", "20260101\\20260102"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert date_of(text) is None
    assert date_of("2026.03.01") == date_of("20260301") == date(2026, 3, 1)


def test_studies_without_mr_and_the_study_itself_are_not_looked_at() -> None:
    def study(uid: str, *modalities: str) -> StudyFound:
        return StudyFound(uid, date(2025, 1, 1), JANE, modalities, "")

    found = verdicts_on(
        [study("1.1"), study("1.2", "CT", "SR"), study("1.3", "SR", "MR"), study("1.4")], PRESENT, SECTION
    )
    assert [one.refusal for one in found] == ["the study itself", "no MR", "", ""]


def series(
    uid: str, description: str, images: int | None = 48, modality: str = "MR", **more: Any
) -> SeriesFound:
    values = {"protocol": "", "body_part": "", **more}
    return SeriesFound("1.9", uid, modality, description, images=images, **values)


def test_candidates_are_flair_by_name_the_likest_first() -> None:
    found = candidates(
        [
            series("1", "t1_mprage_sag"),
            series("2", "FLAIR 3D sag", 176),
            series("3", "t2_flair_tra", 44),
            series("4", "t2_flair_tra", 47),
            series("5", "RESEARCH FLAIR lesions", 48),
            series("6", "FLAIR", 48, "SEG"),
            series("7", "FLAIR localizer", 48),
            series("8", "flair", 3),
            series("9", "c-spine dark fluid"),
        ],
        PRESENT,
    )
    assert [one.series_uid for one in found] == ["4", "3"]
    assert candidates([series("1", "", protocol="AX FLAIR FS")], PRESENT)
    assert candidates([series("1", "FLAIR", 1)], PRESENT), "one Enhanced MR image"
    assert candidates([series("1", "FLAIR", None)], PRESENT), "an archive that does not count"


def test_times_of_a_flair_are_told_from_those_of_others() -> None:
    assert is_flair_by_times((2500.0, 90.0))
    assert not is_flair_by_times((900.0, 10.0)) and not is_flair_by_times((2500.0, 20.0))


@pytest.mark.parametrize(
    ("window", "clock", "wait_s"),
    [
        ("00:00-24:00", "12:00", 0),
        ("08:00-12:00", "08:00", 0),
        ("08:00-12:00", "12:00", 20 * 3600),
        ("18:00-06:00", "05:59", 0),
        ("18:00-06:00", "06:00", 12 * 3600),
        ("18:00-06:00", "23:00", 0),
    ],
)
def test_window_is_waited_for(window: str, clock: str, wait_s: float) -> None:
    assert opens_in_s(window, datetime.fromisoformat(f"2026-03-01T{clock}:00")) == wait_s


@pytest.fixture
def requests(tmp_path: Path) -> PriorRequests:
    return PriorRequests(Spool(tmp_path))


def came(root: Path, at: float) -> None:
    """Let an image of the series 1.2 have come at some time."""
    path = Spool(root).image_path("1.2", "1.2.3")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, (at, at))


@pytest.mark.parametrize(
    ("at", "is_prior"), [(990.0, False), (999.5, True), (1000.0, True), (1060.0, True), (1061.0, False)]
)
def test_series_is_a_prior_when_its_first_image_came_within_the_request(
    requests: PriorRequests, tmp_path: Path, at: float, is_prior: bool
) -> None:
    requests.ask("1.2", "1", "job", now=1000.0, valid_s=60.0)
    came(tmp_path, at)
    assert (requests.that_brought("1.2") is not None) is is_prior
    assert requests.that_brought("1.3") is None
    came(tmp_path, 5000.0)  # its images were corrected later
    assert (PriorRequests(Spool(tmp_path)).that_brought("1.2") is not None) is is_prior


def test_request_that_is_made_again_began_when_it_first_was(requests: PriorRequests, tmp_path: Path) -> None:
    requests.ask("1.2", "1", "job", now=1000.0, valid_s=60.0)
    requests.ask("1.2", "1", "job", now=2000.0, valid_s=60.0)
    requests.extend("1.2", 2100.0)
    requests.extend("1.2", 1500.0)
    came(tmp_path, 1030.0)
    request = requests.that_brought("1.2")
    assert request is not None and (request.asked_at, request.valid_until) == (1000.0, 2100.0)
    requests.withdraw("1.2")
    assert requests.that_brought("1.2") is None


def test_requests_that_nothing_came_of_are_forgotten(requests: PriorRequests, tmp_path: Path) -> None:
    requests.ask("1.2", "1", "job", now=1000.0, valid_s=60.0)
    requests.ask("1.4", "1", "job", now=1000.0, valid_s=60.0)
    came(tmp_path, 1030.0)
    assert requests.that_brought("1.2")
    requests.forget_old(1060.0 + FORGOTTEN_AFTER_S)
    assert requests.of("1.4") is not None
    requests.forget_old(1061.0 + FORGOTTEN_AFTER_S)
    assert requests.of("1.4") is None and requests.of("1.2") is not None


def test_search_is_read_as_it_was_written_and_keeps_its_last_steps(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    search = PriorSearch("ab12", 2, priors=["1.2"])
    for number in range(MOST_STEPS + 5):
        search.note(f"step {number}")
        search.note(f"step {number}")
    write_search(spool, search)
    found = read_search(spool, "ab12")
    assert found == search and len(found.steps) == MOST_STEPS and found.steps[0][1] == "step 5"
    forget_search(spool, "ab12")
    forget_search(spool, "ab12")
    assert read_search(spool, "ab12") is None


class Slow(io.BytesIO):
    """A body that comes in small pieces."""

    def __init__(self, content: bytes, step: int) -> None:
        super().__init__(content)
        self._step = step

    def read(self, amount: int | None = -1, /) -> bytes:
        return super().read(self._step)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(1, 40), st.binary(max_size=5))
def test_parts_of_an_answer_are_what_was_sent(contents: list[bytes], step: int, preamble: bytes) -> None:
    body = preamble + b"".join(
        b"\r\n--b0undary\r\nContent-Type: application/dicom\r\n\r\n" + one for one in contents
    )
    whole = body + b"\r\n--b0undary--\r\n"
    assert [b"".join(pieces) for pieces in parts(Slow(whole, step), b"b0undary")] == contents
    with pytest.raises(MultipartError):
        for pieces in parts(Slow(body, step), b"b0undary"):
            list(pieces)


def test_contexts_of_c_get_are_no_more_than_an_association_may_have() -> None:
    assert len(get_contexts()) <= 128


class Web(BaseHTTPRequestHandler):
    """A DICOMweb that answers with the status that its path begins with."""

    heard: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.heard.append((self.path, self.headers.get("Authorization")))
        status = int(self.path.split("/")[1])
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/404/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (503, AskAgainError, "503 Service Unavailable"),
        (401, PriorError, "set \\[priors\\] web_authorization"),
        (404, NotThereError, "404 Not Found"),
        (204, NotThereError, "204 without a series"),
        (302, NotThereError, "404"),
    ],
)
def test_answer_of_dicomweb_is_told_and_another_place_does_not_hear_who_we_are(
    web: int, status: int, kind: type[PriorError], said: str
) -> None:
    url = f"http://127.0.0.1:{web}/{status}"
    section = PriorsSection(retrieve="web", web_url=url, web_authorization="Bearer secret")
    archive = Archive(
        "pacs", Address("PACS", "127.0.0.1", 104), "LESIONNODE", section, Timeouts(dimse_s=30.0)
    )
    Web.heard.clear()
    with pytest.raises(kind, match=said):
        opened(archive, "1.2", "../../1.3")
    assert Web.heard[0] == (f"/{status}/studies/1.2/series/..%2F..%2F1.3", "Bearer secret")
    assert Web.heard[1:] == ([("/404/elsewhere", None)] if status == 302 else [])
