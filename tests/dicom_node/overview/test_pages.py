"""The pages: what stands on them, what never does, and that nothing of them is live."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from dicom_node.errors import StateError
from dicom_node.jobs.known_workers import SeenWorker, UnservedQueue, Workers
from dicom_node.jobs.live_workers import LiveWorker
from dicom_node.jobs.message import JobMessage
from dicom_node.jobs.states import JobState, ObjectState, SeriesState
from dicom_node.overview.gauges import OverviewGauges
from dicom_node.overview.pages import WORKLOG_LINES, Pages
from dicom_node.worklog.writer import Worklog
from tests.dicom_node.overview.conftest import Site

TO_DELIVERING = (JobState.QUEUED, JobState.RUNNING, JobState.DELIVERING)
VOID = {"meta", "link", "br", "rect"}


class Outline(HTMLParser):
    """Elements, attributes and text of a page; every element that is opened must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", self.words)


def pages(site: Site) -> Pages:
    return Pages(site.store, site.spool, site.settings, workers=lambda: site.workers, clock=lambda: site.now)


def read(site: Site, path: str) -> Outline:
    answer = pages(site).answer(path)
    assert answer is not None
    assert answer.status == "200 OK"
    return Outline(answer.text)


@pytest.fixture
def busy(site: Site) -> Site:
    """A site with something of everything."""
    site.series(1, SeriesState.RECEIVING)
    site.series(2, SeriesState.HELD, "slice 7 is missing", ago_s=7200)
    undelivered = site.job(3, *TO_DELIVERING, JobState.UNDELIVERED, outcome="findings", ended_s=50)
    site.objects(undelivered, ObjectState.FAILED, reason="refused <for good>")
    site.objects(site.job(4, *TO_DELIVERING), ObjectState.PENDING, 3, reason="no answer")
    site.job(5, *TO_DELIVERING, JobState.DELIVERED, outcome="none", ended_s=20)
    site.job(6, JobState.QUEUED, ago_s=600)
    worker = LiveWorker("gpu1:7", "0.2.0", JobMessage.VERSION, ("fatsat",), "cuda:0")
    site.workers = Workers(
        site.now, (SeenWorker(worker, site.now - 5),), (UnservedQueue("flair", 1, site.now - 600),)
    )
    log = Worklog(site.spool.root, clock=lambda: datetime.fromtimestamp(site.now, UTC))
    log.write("received", undelivered, images=48, calling_ae="<SCANNER>")
    log.close()
    return site


def test_first_page_shows_what_is_stuck_its_command_its_age_and_everything_else(busy: Site) -> None:
    text = read(busy, "/").text
    for words in (
        "3 things keep results from going out",
        "no flair worker",
        "dicom-node worker --queues flair",
        "job 00000003 (flair) is not delivered",
        "refused <for good>",
        "dicom-node retry 00000003",
        "for 50 s",
        "for 2 h",
        "slice 7 is missing",
        "3 objects of 1 job not at pacs yet",
        "gpu1",
        "answers",
        "PACS@127.0.0.1:104",
        "in use",
        "Turnaround, median",
        "48 images from <SCANNER>",
    ):
        assert words in text


def test_first_page_of_a_node_where_all_is_well_says_so(site: Site) -> None:
    text = read(site, "/").text
    assert "All is well" in text
    assert "Stuck" not in text


@pytest.mark.parametrize("path", ["/", "/worklog", "/why/00000003"])
def test_pages_need_no_script_and_nothing_from_elsewhere_and_look_again_by_themselves(
    busy: Site, path: str
) -> None:
    found = read(busy, path).tags
    assert {"script", "img", "iframe", "form", "style", "object"}.isdisjoint(tag for tag, _ in found)
    assert not [
        name for _, attributes in found for name in attributes if name.startswith("on") or name == "style"
    ]
    links = [str(given["href"]) for _, given in found if "href" in given]
    assert links
    assert all(re.fullmatch(r"/|/worklog|/style\.css|/why/[0-9a-f]{8}|#content", link) for link in links)
    assert ("meta", {"http-equiv": "refresh", "content": "15"}) in found


def test_every_link_leads_to_a_page(busy: Site) -> None:
    found = {str(given["href"]) for _, given in read(busy, "/").tags if "href" in given} - {"#content"}
    for link in found:
        answer = pages(busy).answer(link)
        assert answer is not None
        assert answer.status == "200 OK", link


def test_page_of_a_job_is_its_why_without_a_uid(busy: Site) -> None:
    page = read(busy, "/why/00000003")
    for words in (
        "job 00000003 (flair, run 1)",
        "undelivered, findings",
        "dicom-node retry 00000003",
        "1 x sr to pacs: failed, refused <for good>",
        "delivering",
        "1 image from SCANNER",
        "48 images from <SCANNER>",
    ):
        assert words in page.text
    assert "1.2.3" not in page.text


def test_page_of_a_series_tells_the_way_out(busy: Site) -> None:
    held = busy.store.series_in(SeriesState.HELD)[0].id
    text = read(busy, f"/why/{held[:8]}").text
    assert "slice 7 is missing" in text
    assert f"dicom-node release {held[:8]}" in text


def test_page_of_a_queued_job_says_that_no_worker_is_there(busy: Site) -> None:
    text = read(busy, "/why/00000006").text
    assert "no flair worker answers; it waits without one since " in text
    assert "dicom-node worker --queues flair" in text


def test_id_that_nothing_has_is_not_found_and_anything_else_is_no_page(busy: Site) -> None:
    answer = pages(busy).answer("/why/ffffffff")
    assert answer is not None
    assert answer.status == "404 Not Found"
    assert "no series or job has an ID that begins with" in answer.text
    for path in ("/why/", "/why/1.2.3", "/why/..%2f", "/why/abc", "/../state.sqlite", "/style", "//"):
        assert pages(busy).answer(path) is None


def test_database_that_can_not_be_used_gives_a_page_that_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StateError("another program holds it")

    monkeypatch.setattr("dicom_node.overview.collect.queue_depths", refuse)
    answer = pages(site).answer("/")
    assert answer is not None
    assert (answer.status, "another program holds it" in answer.text) == ("503 Service Unavailable", True)


def test_data_folder_that_is_away_gives_a_page_that_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr("dicom_node.overview.collect.shutil.disk_usage", refuse)
    answer = pages(site).answer("/")
    assert answer is not None
    assert (answer.status, "No such file or directory" in answer.text) == ("503 Service Unavailable", True)
    assert list(OverviewGauges(pages(site).overview).collect()) == []


def test_worklog_page_shows_the_last_200_lines_newest_first(site: Site) -> None:
    log = Worklog(site.spool.root)
    for number in range(WORKLOG_LINES + 5):
        log.write("received", images=number, calling_ae="SCANNER")
    log.close()
    text = read(site, "/worklog").text
    assert "The last 200 lines" in text
    shown = [int(count) for count in re.findall(r"(\d+) images? from", text)]
    assert shown == list(range(WORKLOG_LINES + 4, 4, -1))


def test_overview_is_made_once_a_second_however_many_look(site: Site) -> None:
    made = pages(site)
    first = made.overview()
    site.now += 0.9
    assert made.overview() is first
    site.now += 0.2
    assert made.overview() is not first
    site.now -= 100  # the clock was set back
    assert made.overview().at == site.now


def test_long_list_is_cut_and_says_where_the_rest_is(site: Site) -> None:
    for number in range(103):
        site.series(number, SeriesState.HELD, "a gap")
    text = read(site, "/").text
    assert "103 things wait for you" in text
    assert "3 more: dicom-node status lists them all" in text
