"""OHIF in a browser shows every object of a study: measurements on their lesions, segments, pictures, and texts as text.

What its window showed is kept in ``build/ohif``.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.series.volume import LoadedSeries
from dicom_node.study.content import CHANGE, Part, StudyContent
from dicom_node.study.objects import build_summary
from pipelines.types import Anatomy, Findings, RegionLoad, Segment
from tests.dicom_node.results.result_factories import (
    BOXES,
    SYNTHETIC,
    mask_of,
    measurement_groups,
    numbers,
)
from tests.dicom_node.study.conftest import (
    LOADS,
    STUDY,
    SUMMARY,
    change_part,
    fatsat_findings,
    flair_findings,
    make_part,
)
from tests.integration.ohif import OhifServer, built_viewer, chromium
from tests.integration.systems import Orthanc

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SCREENSHOTS = Path(__file__).parents[2] / "build" / "ohif"
NEGATIVE = {**STUDY, "StudyInstanceUID": f"{STUDY['StudyInstanceUID']}.1", "AccessionNumber": "A18"}
SEGMENTS = {"periventricular": "Periventricular", "juxtacortical": "Juxtacortical or cortical"}
CHANGES = ["New lesions", "Enlarging lesions", "Smaller lesions", "Resolved lesions", "Possible change"]
FALLBACKS = ("sr-enhanced", "summary-sr-enhanced", "change-sr-enhanced")
"""Objects that only a PACS gets which refuses the others."""

IMAGES = 12
"""Of each series."""
PATIENCE_MS = 60_000
"""Until something is shown: the browser draws without a graphics card, beside other tests."""
GRID = '[data-cy="viewport-grid"]'
VOLUME = "118565006"
THUMBNAILS = '[data-cy^="study-browser-thumbnail"]'
SHOWN = """
(() => {
  const canvas = document.querySelector('[data-cy="viewport-grid"] canvas');
  if (!canvas || !canvas.width) return {lit: 0, coloured: 0};
  const side = 256, copy = document.createElement('canvas');
  copy.width = copy.height = side;
  const ink = copy.getContext('2d');
  ink.drawImage(canvas, 0, 0, side, side);
  const data = ink.getImageData(0, 0, side, side).data;
  let lit = 0, coloured = 0;
  for (let at = 0; at < data.length; at += 4) {
    const most = Math.max(data[at], data[at + 1], data[at + 2]), least = Math.min(data[at], data[at + 1], data[at + 2]);
    if (most > 40) lit++;
    if (most - least > 40) coloured++;
  }
  return {lit: lit / side / side, coloured: coloured / side / side};
})()
"""
"""Parts of the image's canvas that are not black, and that are in colour."""


LABELS = {
    "flair": ["Periventricular", "Juxtacortical or cortical"] * 2,
    "fatsat": ["Optic nerve"] * 2,
    "change": [
        *("Long axis: 7.20 mm", "Fractional Change: -0.39", "Long axis: 7.20 mm", "Fractional Change: -0.68"),
        *("Volume in the prior study: 14.60 mm3", "Juxtacortical or cortical"),
        *["Brain"] * 5,
    ],
}
"""Words beside each measurement, of which the viewer writes five lines, numbers first; in the order of the report: changed
lesions, others, segments."""


def regional(series: LoadedSeries) -> Findings:
    """Two lesions, each in the segment of its region."""
    found = flair_findings(series)
    shape = series.volume.array.shape
    segments = tuple(
        Segment(name, "lesion_of_brain", mask_of(shape, [box]), None, colour, region=region)
        for (region, name), box, colour in zip(
            SEGMENTS.items(), BOXES, ((255, 64, 64), (64, 255, 64)), strict=True
        )
    )
    lesions = (replace(one, segment=part.name) for one, part in zip(found.lesions, segments, strict=True))
    return replace(found, lesions=tuple(lesions), segments=segments)


def nothing(series: LoadedSeries) -> Findings:
    loads = tuple(RegionLoad(load.region, 0, 0, 0.0, 0.0) for load in LOADS)
    return Findings("none", anatomy=Anatomy(loads), models=(SYNTHETIC,))


def make_parts(folder: Path) -> dict[str, Part]:
    """Write two series of one study with findings and what has changed, and the FLAIR of another without findings."""
    flair = make_part(folder / "flair", "flair", regional, 5)
    return {
        "flair": flair,
        "fatsat": make_part(folder / "fatsat", "fatsat", fatsat_findings, 9),
        "change": change_part(flair, folder / "change"),
        "nothing": make_part(folder / "nothing", "flair", nothing, 6, NEGATIVE),
    }


def images_of(part: Part) -> list[Path]:
    return sorted(path for path in (part.folder.parent / "source").rglob("*") if path.is_file())


def files_of(parts: Mapping[str, Part], folder: Path) -> list[Path]:
    """Return all that a PACS has of both studies: images, results, and the page of each study."""
    files: list[Path] = []
    for name, shown in (("both", ("flair", "fatsat", "change")), ("none", ("nothing",))):
        out = folder / name
        out.mkdir()
        of_study = tuple(parts[one] for one in shown)
        content = StudyContent(of_study, replace(SUMMARY, job_id=f"{len(of_study):032x}"))
        files += [out / one.path for one in build_summary(content, out) if one.role not in FALLBACKS]
        for part in of_study:
            if part.pipeline != CHANGE:
                files += images_of(part)
            files += [part.folder / one.path for one in part.objects if one.role not in FALLBACKS]
    return files


def store(orthanc: Orthanc, path: Path) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{orthanc.http_port}/instances", path.read_bytes())
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def launch(playwright: Any) -> Any:
    # Its sandbox needs rights that a container does not give; WebGL is computed where there is no graphics card.
    flags = [
        "--no-sandbox",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--ignore-gpu-blocklist",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    return playwright.chromium.launch(executable_path=chromium(), args=flags)


class Viewer:
    """A study in OHIF, of which one series after the other is opened."""

    def __init__(self, browser: Any, address: str, study_uid: str) -> None:
        self.page = browser.new_page(viewport={"width": 1300, "height": 820})
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.add_init_script("localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))")
        self.page.goto(f"{address}/viewer?StudyInstanceUIDs={study_uid}")
        self.page.locator(THUMBNAILS).first.wait_for()
        self.page.locator(f"{GRID} canvas").first.wait_for()

    def series(self) -> dict[int, str]:
        """Descriptions of the study's series by number, in the order of the list."""
        rows = self.page.locator(THUMBNAILS).evaluate_all(
            "rows => rows.map(row => [row.dataset.series,"
            " row.querySelector('[data-cy=\"series-description-label\"]').innerText])"
        )
        return {int(number): words for number, words in rows}

    def open(self, number: int) -> None:
        """Open a series by a double click in the list."""
        self.complaints.clear()
        self.page.locator(f'{THUMBNAILS}[data-series="{number}"]').first.dblclick()

    def keep(self, name: str) -> None:
        """Write what the window shows into the folder of screenshots."""
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def words(self) -> str:
        """Return the text in the viewport."""
        return str(self.page.locator(GRID).inner_text())

    def wait_for_label(self, words: str) -> None:
        """Wait until a text with these words is drawn over the image."""
        self.page.wait_for_function(
            "words => [...document.querySelectorAll('svg.svg-layer text')].some(one => one.textContent.includes(words))",
            arg=words,
        )

    def step(self) -> None:
        """Go on to the next measurement."""
        self.page.locator('[data-cy="viewport-action-arrows-right"] > *').click()

    def scroll_to(self, image: int) -> None:
        """Go on by the arrow key to the image of this InstanceNumber."""
        place = self.page.locator('[data-cy="viewport-overlay-bottom-right"]')
        place.get_by_text("I:").wait_for()
        for _ in range(IMAGES):
            shown = place.inner_text()
            if f"I:{image} " in " ".join(shown.replace("I:\n", "I:").split()):
                return
            self.page.keyboard.press("ArrowDown")
            self.page.wait_for_function(
                "([where, before]) => document.querySelector(where).innerText !== before",
                arg=['[data-cy="viewport-overlay-bottom-right"]', shown],
            )
        raise AssertionError(f"no image {image}")

    def show_segments(self) -> None:
        """Open the panel with the segments, if it is not open yet."""
        if not self.page.locator('[data-cy="segmentation-select"]').count():
            self.page.locator('[data-cy="side-panel-header-right"]').click()

    def wait_for_image(self, coloured: float = 0.0) -> None:
        """Wait until an image is drawn, a part of it in colour."""
        self.page.wait_for_function(f"(shown => shown.lit > 0.05 && shown.coloured >= {coloured})({SHOWN})")

    def wait_for_words(self, words: str) -> None:
        self.page.wait_for_function(
            "([where, words]) => document.querySelector(where).innerText.includes(words)", arg=[GRID, words]
        )


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Part]:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def address(parts: dict[str, Part], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where OHIF shows both studies out of Orthanc."""
    viewer = built_viewer()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("ohif")
    orthanc = Orthanc(folder / "orthanc")
    orthanc.start()
    server = OhifServer(viewer, orthanc.http_port)
    server.start()
    for path in files_of(parts, folder):
        store(orthanc, path)
    yield server.address
    server.stop()
    orthanc.stop()


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture(scope="module")
def study(browser: Any, address: str) -> Viewer:
    return Viewer(browser, address, STUDY["StudyInstanceUID"])


@pytest.fixture
def fresh(browser: Any, address: str) -> Iterator[Viewer]:
    """The study as a reader opens it: after a second report OHIF's arrows go on by two measurements at once."""
    viewer = Viewer(browser, address, STUDY["StudyInstanceUID"])
    yield viewer
    viewer.page.close()


@pytest.fixture(scope="module")
def negative(browser: Any, address: str) -> Viewer:
    return Viewer(browser, address, NEGATIVE["StudyInstanceUID"])


def marked_images(part: Part, images: list[Path]) -> list[tuple[int, dict[str, float]]]:
    """Return of each measurement group the InstanceNumber of the image that its point lies in, and its numbers."""
    headers = [dcmread(path, stop_before_pixels=True) for path in images]
    places = {header.SOPInstanceUID: int(header.InstanceNumber) for header in headers}
    roles = ("sr", "change-sr")
    (report,) = (dcmread(part.folder / one.path) for one in part.objects if one.role in roles)
    found = []
    for group in measurement_groups(report).values():
        point = next(item for item in group.ContentSequence if item.ValueType == "SCOORD")
        image = point.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        found.append((places[image], numbers(group)))
    return found


def test_list_reads_the_page_first_and_names_every_object(study: Viewer) -> None:
    study.keep("list")
    listed = study.series()
    flair, change, fatsat = {9011, 9012, 9013, 9014}, {9016, 9017, 9018, 9019}, {9021, 9022, 9023, 9024}
    assert set(listed) == {5, 9, 9000, 9001, 9002} | flair | change | fatsat
    assert all(words.startswith("RESEARCH ") for number, words in listed.items() if number >= 9000)


@pytest.mark.parametrize(("number", "name"), [(9013, "flair"), (9018, "change"), (9023, "fatsat")])
def test_measurements_open_on_the_first_finding_and_step_through_all(
    fresh: Viewer, parts: dict[str, Part], number: int, name: str
) -> None:
    fresh.open(number)
    fresh.page.locator('[data-cy="viewport-action-arrows-right"]').wait_for()
    images = images_of(parts["flair" if name == "change" else name])
    for place, (image, figures) in enumerate(marked_images(parts[name], images)):
        fresh.wait_for_words(f"I:{image} (")
        fresh.wait_for_image()
        fresh.wait_for_label(LABELS[name][place])
        if figures.get(VOLUME):  # the viewer shows a volume of 0 as a blank
            fresh.wait_for_label(f"Volume: {figures[VOLUME]:.2f} mm3")
        fresh.keep(f"{number}-{place + 1}")
        fresh.step()
    assert fresh.complaints == []


@pytest.mark.parametrize(
    ("number", "segments"),
    [(9012, list(SEGMENTS.values())), (9016, CHANGES), (9022, ["Right optic nerve"])],
)
def test_mask_shows_each_segment_by_its_name_and_colour(
    fresh: Viewer, number: int, segments: list[str]
) -> None:
    fresh.open(number)
    fresh.page.get_by_text("Yes", exact=True).click()
    fresh.show_segments()
    titles = fresh.page.locator('[data-cy="data-row-title"]')
    titles.get_by_text(segments[-1]).wait_for()
    fresh.wait_for_image(coloured=0.001)
    fresh.keep(f"{number}")
    shown = titles.all_inner_texts()
    # the viewer puts the side before a name once more
    assert [title.split("Right ")[-1] for title in shown] == [
        name.removeprefix("Right ") for name in segments
    ]
    assert fresh.complaints == []


def test_page_is_a_picture_in_colour(study: Viewer) -> None:
    study.open(9000)
    study.wait_for_words("RESEARCH 1 study summary")
    study.wait_for_image(coloured=0.0005)
    study.keep("9000")
    assert study.complaints == []


def test_pairs_of_a_change_show_both_days_and_scroll(study: Viewer) -> None:
    study.open(9017)
    study.wait_for_words("change in pairs")
    for number in (1, 2):
        study.scroll_to(number)
        study.wait_for_image(coloured=0.0005)
        study.keep(f"9017-{number}")
    assert study.complaints == []


@pytest.mark.parametrize(("number", "name"), [(9011, "flair"), (9021, "fatsat")])
def test_outlines_are_drawn_on_the_image_of_a_finding(
    study: Viewer, parts: dict[str, Part], number: int, name: str
) -> None:
    study.open(number)
    study.wait_for_words("outlines")
    study.scroll_to(marked_images(parts[name], images_of(parts[name]))[0][0])
    study.wait_for_image(coloured=0.0005)
    study.keep(f"{number}")
    assert study.complaints == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (9001, "2 lesions in the brain, 0.36 mL in all."),
        (9002, "Study summary"),
        (9014, "2 lesions"),
        (9019, "1 new lesion since 2025-03-01 (comparability B)."),
        (9024, "Right optic nerve: rated suspicious for a lesion"),
    ],
)
def test_report_stands_as_text(study: Viewer, number: int, words: str) -> None:
    study.open(number)
    study.wait_for_words(words)
    study.keep(f"{number}")
    assert study.complaints == []


@pytest.mark.parametrize("number", [9002, 9013])
def test_report_without_a_finding_stands_as_text_and_is_no_black_window(
    negative: Viewer, number: int
) -> None:
    negative.open(number)
    negative.wait_for_words("without findings")
    negative.keep(f"nothing-found-{number}")
    assert negative.complaints == []
