"""The overview in a browser: a stuck job with its command is seen, and every text has contrast, in both colour schemes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from dicom_node.jobs.states import JobState, ObjectState, SeriesState
from dicom_node.overview.pages import Pages
from dicom_node.overview.web import WebServer
from dicom_node.worklog.metrics import Metrics
from dicom_node.worklog.writer import Worklog
from tests.dicom_node.overview.conftest import Site

CHROMIUM = shutil.which("chromium")
AA, AA_LARGE = 4.5, 3.0
"""WCAG 2.2, success criterion 1.4.3; large is 24 px, or 18.66 px and bold."""

TEXTS = """
() => {
  const parts = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const opaque = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour.slice(0, 3);
      if (colour[3] > 0) throw new Error("a background that lets another one through: " + at.className);
    }
    throw new Error("no background");
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, style = getComputedStyle(element);
    if (!walker.currentNode.data.trim() || !element.getClientRects().length || style.visibility !== "visible") continue;
    found.push({text: walker.currentNode.data.trim().slice(0, 60), ink: parts(style.color), ground: opaque(element),
                px: parseFloat(style.fontSize), weight: Number(style.fontWeight)});
  }
  return found;
}
"""


def luminance(colour: list[float]) -> float:
    """Relative luminance of an sRGB colour, WCAG 2.2."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (c / 255 for c in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21.0)
    assert contrast([118, 118, 118], [255, 255, 255]) == pytest.approx(4.54, abs=0.005)


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    job_id = site.job(
        1, JobState.QUEUED, JobState.RUNNING, JobState.DELIVERING, JobState.UNDELIVERED, outcome="findings"
    )
    site.objects(job_id, ObjectState.FAILED, reason="refused for good")
    site.job(
        2,
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.DELIVERING,
        JobState.DELIVERED,
        outcome="none",
        ended_s=20,
    )
    site.job(3, JobState.QUEUED)
    site.series(4, SeriesState.HELD, "slice 7 is missing")
    log = Worklog(site.spool.root)
    for event, figures in (
        ("received", {"images": 48}),
        ("undelivered", {"objects": 1, "destination": "pacs"}),
        ("held", {}),
    ):
        log.write(event, job_id, **figures)  # type: ignore[arg-type]
    log.close()
    pages = Pages(site.store, site.spool, site.settings, workers=lambda: site.workers, clock=lambda: site.now)
    server = WebServer(pages.answer, Metrics().app, tuple)
    server.listen(0)
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


@pytest.fixture
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        # Its sandbox needs rights that a container does not give; the pages are ours.
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.slow
def test_browser_shows_a_stuck_job_and_its_command_with_contrast_in_both_colour_schemes(
    browser: Any, address: str
) -> None:
    for scheme in ("light", "dark"):
        grounds = set()
        for width in (1280, 390):
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=True
            )
            page = context.new_page()
            complaints: list[str] = []
            page.on("console", lambda message, into=complaints: into.append(message.text))
            page.on("request", lambda request, into=complaints: _note_foreign(request.url, address, into))
            for path in ("/", "/worklog", "/why/00000001"):
                page.goto(f"{address}{path}")
                found = page.evaluate(TEXTS)
                assert len(found) > 10
                for one in found:
                    is_large = one["px"] >= 24 or (one["px"] >= 18.66 and one["weight"] >= 700)
                    least = AA_LARGE if is_large else AA
                    assert contrast(one["ink"], one["ground"]) >= least, (scheme, width, path, one)
                grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            page.goto(address)
            assert page.get_by_text("job 00000001 (flair) is not delivered").is_visible()
            assert page.get_by_text("dicom-node retry 00000001", exact=True).is_visible()
            page.get_by_text("job 00000001 (flair) is not delivered").click()
            assert page.url == f"{address}/why/00000001"
            assert page.get_by_role("heading", name="job 00000001 (flair, run 1)").is_visible()
            assert complaints == []
            context.close()
        (ground,) = grounds
        assert (luminance([float(part) for part in ground[4:-1].split(",")]) > 0.5) is (scheme == "light")


def _note_foreign(url: str, address: str, into: list[str]) -> None:
    if not url.startswith(f"{address}/"):
        into.append(f"asked elsewhere: {url}")
