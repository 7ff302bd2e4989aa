"""When a page is made, of what, how often, and that a crash at any step leads to exactly one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rig import JobsRig, header, manifest, message_of

from dicom_node.config.sections import SummarySection
from dicom_node.errors import NodeError, StateError
from dicom_node.jobs.comparison_job import CHANGE, Compared
from dicom_node.jobs.schema import SeriesRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import job_identity
from dicom_node.jobs.summary_job import SUMMARY, summary_id
from dicom_node.results.manifest import Manifest, ResultObject
from dicom_node.spool.prior_searches import PriorSearch, write_search
from dicom_node.spool.run_folder import RunFolder
from dicom_node.study import summariser as module
from dicom_node.study.summariser import Summariser
from dicom_node.worklog.writer import Worklog

STUDY = "1.2"
SETTINGS = SummarySection(after_s=300, at_latest_s=1800)
LEASE_S = 30.0


class Killed(BaseException):
    """What ends a process at once."""


class Queues:
    """A broker that forgets everything, and must never hear of a page."""

    def ping(self) -> str:
        return "first"

    def places(self, queue: str) -> dict[str, str]:
        assert queue != SUMMARY
        return {}

    def enqueue(self, job: Any, message: Any) -> None:
        assert job.pipeline != SUMMARY

    def forget(self, job_id: str, queue: str) -> None:
        """Have nothing to forget."""


class Bench:
    """A study whose series come and are answered as the test says, and a clock to turn."""

    def __init__(self, root: Path) -> None:
        self.now = time.time()
        self.rig = JobsRig(root, Queues(), lease_s=LEASE_S, clock=lambda: self.now)
        self.store, self.results = self.rig.store, self.rig.results
        self.worklog = Worklog(root)
        self.orders: list[dict[str, Any]] = []
        self.compares = False
        self.summariser = self.another()

    def another(self) -> Summariser:
        return Summariser(
            self.store,
            self.rig.spool,
            self.worklog,
            SETTINGS,
            context_of=lambda job: message_of(job).context("study summary"),
            title_of=str.upper,
            again=self.rig.reconciler.again,
            on_published=lambda: None,
            compares=self.compares,
            build=self.build,
            clock=lambda: self.now,
        )

    def build(self, order: dict[str, Any]) -> list[ResultObject]:
        self.orders.append(order)
        json.dumps(order)
        return [item("summary", order["context"]["job_id"])]

    def restart(self) -> None:
        """Begin again as after a kill: another process, and the leases of the last one run out."""
        self.rig.reconciler = self.rig.another_reconciler()
        self.summariser = self.another()
        for _ in range(3):
            self.rig.reconciler.step()
            self.now += LEASE_S + 1

    def part(self, series: str, pipeline: str = "flair", study: str = STUDY) -> str:
        """Let a series come, be routed and wait for its answer; return its job."""
        image = replace(header(series=series), study_uid=study)
        self.store.add_image(image, f"series/{series}/b.dcm", "SCANNER", self.now)
        self.store.move_series(series, SeriesState.ROUTED)
        job_id = job_identity([image.sop_instance_uid], pipeline, "digest", {})
        assert self.store.create_job(
            job_id=job_id,
            series_uid=series,
            pipeline=pipeline,
            rule="",
            state=JobState.QUEUED,
            settings={},
            images=[f"series/{series}/b.dcm"],
        )
        return job_id

    def answer(self, job_id: str, run: int = 1, *, has_record: bool = True) -> None:
        folder = RunFolder.claim(self.results, job_id, run)
        assert folder is not None
        replace(manifest(job_id, run), objects=(item("sr", job_id),)).write(folder.path)
        if has_record:
            (folder.path / "findings.json").touch()
        assert folder.publish()
        os.utime(self.results / job_id / "manifest.json", (self.now, self.now))
        self.rig.reconciler.step()

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and everything be looked at as often as it wants to be."""
        self.now += seconds
        self.summariser.notice(STUDY)
        for _ in range(3):
            self.summariser.step()
            self.rig.reconciler.step()

    @property
    def pages(self) -> list[Manifest]:
        """The pages of the study that lie in the results, by their revisions."""
        folders = [self.results / summary_id(STUDY, revision) for revision in range(9)]
        return [Manifest.read(folder) for folder in folders if folder.is_dir()]

    def finished(self) -> list[str]:
        """What was told of finished pages: each is told once, whoever made it."""
        rows = [row for row in self.store.jobs_in(JobState.DELIVERING) if row.pipeline == SUMMARY]
        return [row.id for row in rows]


def item(role: Any, job_id: str) -> ResultObject:
    return ResultObject(role, f"{role}.dcm", "1.2.840", f"1.2.{int(job_id[:8], 16)}", "1.9", STUDY, "00")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.worklog.close()
    bench.store.close()


def test_results_that_an_earlier_version_made_get_no_page_by_themselves(bench: Bench):
    flair, fatsat = bench.part("1.5"), bench.part("1.9", "fatsat")
    bench.answer(flair, has_record=False)
    bench.answer(fatsat, has_record=False)
    bench.turn(3600)
    assert bench.pages == []
    bench.answer(bench.part("1.7"))
    bench.turn(3600)
    assert len(bench.pages) == 1


def test_page_waits_for_every_answer_and_for_quiet(bench: Bench):
    flair, fatsat = bench.part("1.5"), bench.part("1.9", "fatsat")
    bench.answer(flair)
    bench.turn(301)
    assert bench.pages == []
    bench.answer(fatsat)
    bench.turn()
    (page,) = bench.pages
    assert page.figures["parts"] == {flair: 1, fatsat: 1}
    (order,) = bench.orders
    assert [part["pipeline"] for part in order["parts"]] == ["flair", "fatsat"]
    assert (order["awaited"], order["revision"], order["pdf"]) == ([], 0, False)
    assert bench.finished() == [summary_id(STUDY, 0)]


def test_page_waits_until_no_image_comes(bench: Bench):
    bench.answer(bench.part("1.5"))
    bench.turn(200)
    bench.store.add_image(header(7, "1.77"), "series/l/7.dcm", "SCANNER", bench.now)
    bench.store.move_series("1.77", SeriesState.IGNORED)
    bench.turn(299)
    assert bench.pages == []
    bench.turn(2)
    assert len(bench.pages) == 1


def test_answer_that_does_not_come_is_waited_for_no_longer_than_half_an_hour(bench: Bench):
    flair = bench.part("1.5")
    bench.part("1.9", "fatsat")
    bench.answer(flair)
    bench.turn(1799)
    assert bench.pages == []
    bench.turn(2)
    assert len(bench.pages) == 1
    assert bench.orders[0]["awaited"] == ["fatsat"]


def test_person_has_the_page_at_once(bench: Bench):
    with pytest.raises(StateError, match="no series of this study has an answer yet"):
        bench.summariser.summarise(STUDY)
    bench.answer(bench.part("1.5"))
    assert bench.summariser.summarise(STUDY) == "the page of the study is made from 1 result now"
    bench.turn()
    assert len(bench.pages) == 1
    with pytest.raises(StateError, match="has all of its answers; dicom-node retry"):
        bench.summariser.summarise(STUDY)


def test_late_part_makes_a_revision_that_names_its_predecessor(bench: Bench):
    bench.answer(bench.part("1.5"))
    bench.turn(301)
    late = bench.part("1.9", "fatsat")
    bench.answer(late)
    bench.turn(301)
    assert [page.figures["revision"] for page in bench.pages] == [0, 1]
    revised = bench.store.job(summary_id(STUDY, 1))
    assert revised is not None and revised.replaces == summary_id(STUDY, 0)
    bench.turn(5000)
    assert len(bench.pages) == 2


def test_part_that_is_analysed_again_makes_a_revision(bench: Bench):
    flair = bench.part("1.5")
    bench.answer(flair)
    bench.turn(301)
    bench.rig.reconciler.again(flair, "its images were corrected")
    bench.answer(flair, run=2)
    bench.turn(1)
    assert [page.figures["parts"] for page in bench.pages] == [{flair: 1}, {flair: 2}]


def test_series_that_left_the_study_makes_a_revision_without_it(bench: Bench):
    flair, fatsat = bench.part("1.5"), bench.part("1.9", "fatsat")
    bench.answer(flair)
    bench.answer(fatsat)
    bench.turn(301)
    with bench.store.session() as session:
        row = session.get(SeriesRow, "1.9")
        assert row is not None
        row.study_uid = "1.3"
    bench.turn(1)
    assert bench.pages[-1].figures["parts"] == {flair: 1}


def test_page_that_was_taken_back_is_made_anew_and_not_revised(bench: Bench):
    flair = bench.part("1.5")
    bench.answer(flair)
    bench.turn(301)
    bench.rig.reconciler.recall(flair, "corrected")
    bench.rig.reconciler.recall(summary_id(STUDY, 0), "corrected")
    bench.rig.reconciler.again(flair, "corrected")
    bench.answer(flair, run=3)
    bench.turn(1)
    (page,) = bench.pages
    assert (page.run, page.figures["parts"]) == (3, {flair: 3})


def test_fourth_late_part_is_told_and_makes_no_page(bench: Bench):
    for number in range(6):
        bench.answer(bench.part(f"1.5.{number}"))
        bench.turn(301)
    assert len(bench.pages) == 4
    log = "".join(path.read_text() for path in bench.rig.spool.root.glob("*log*") if path.is_file())
    assert log.count("came after 3 revisions") == 2


def test_page_whose_days_are_over_does_not_come_again(bench: Bench):
    fatsat = bench.part("1.9", "fatsat")
    bench.answer(fatsat)
    bench.turn(301)
    page = summary_id(STUDY, 0)
    with bench.store.session() as session:  # as retention does
        session.delete(session.merge(bench.store.job(page)))
    (bench.results / page).rename(bench.results / f"{page}.was1")
    bench.turn(5000)
    assert len(bench.orders) == 1


def test_build_that_fails_is_tried_three_times_and_then_told(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def fail(order: dict[str, Any]) -> list[ResultObject]:
        bench.orders.append(order)
        raise NodeError("no space")

    bench.summariser._build = fail
    bench.answer(bench.part("1.5"))
    bench.turn(301)
    for _ in range(6):
        bench.turn(6)
    assert len(bench.orders) == 3
    (page,) = bench.pages
    assert (page.status, page.reason) == ("failed", "no page can be made: no space")


@pytest.mark.parametrize("step", ["job", "claim", "build", "manifest", "publish", "published"])
def test_kill_at_any_step_leads_to_exactly_one_page(bench: Bench, step: str, monkeypatch: pytest.MonkeyPatch):
    flair = bench.part("1.5")
    bench.answer(flair)

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if step == "job":
            patch.setattr(module.RunFolder, "claim", kill)
        elif step == "claim":
            patch.setattr(module.RunFolder, "event", kill)
        elif step == "build":
            patch.setattr(bench.summariser, "_build", kill)
        elif step == "manifest":
            patch.setattr(bench.summariser, "_manifest", kill)
        elif step == "publish":
            patch.setattr(module.RunFolder, "publish", kill)
        else:
            patch.setattr(bench.summariser, "_on_published", kill)
        bench.now += 301
        bench.summariser.notice(STUDY)
        with pytest.raises(Killed):
            bench.summariser.step()
    bench.restart()
    bench.turn(6)
    (page,) = bench.pages
    assert page.figures["parts"] == {flair: 1}
    assert bench.finished() == [summary_id(STUDY, 0)]
    assert bench.rig.folders(page.job_id) == [""]
    bench.turn(5000)
    assert len(bench.pages) == 1


def test_node_of_another_process_makes_the_same_job(bench: Bench):
    bench.answer(bench.part("1.5"))
    other = bench.another()
    bench.now += 301
    for one in (bench.summariser, other):
        one.notice(STUDY)
        one.step()
    assert len(bench.orders) == 1


def search(bench: Bench, flair: str, *priors: str, state: Any = "done", run: int = 1) -> None:
    reason = "no prior: no earlier study has a series that fits"
    write_search(bench.rig.spool, PriorSearch(flair, run, state, reason=reason, priors=list(priors)))


def comparison_job(bench: Bench, flair: str, run: int = 1) -> str:
    compared = Compared(flair, run, "1.0")
    job = bench.store.job(flair)
    assert job is not None
    assert bench.store.create_job(
        job_id=compared.id,
        series_uid=job.series_uid,
        pipeline=CHANGE,
        rule="",
        state=JobState.QUEUED,
        settings=compared.settings(),
        images=job.images,
    )
    return compared.id


def test_page_waits_for_the_comparison_as_for_any_answer(bench: Bench):
    bench.compares = True
    bench.summariser = bench.another()
    flair = bench.part("1.5")
    bench.answer(flair)
    bench.turn(301)
    assert bench.pages == [], "the search is about to begin"
    search(bench, flair, state="waiting")
    bench.turn(100)
    search(bench, flair, "1.0")
    bench.turn(100)
    assert bench.pages == [], "the comparison is about to begin"
    change = comparison_job(bench, flair)
    bench.turn(100)
    assert bench.pages == []
    bench.answer(change, has_record=False)
    bench.turn()
    (page,) = bench.pages
    assert page.figures["parts"] == {flair: 1, change: 1}
    (order,) = bench.orders
    assert [part["pipeline"] for part in order["parts"]] == ["flair", "change"]
    assert (order["awaited"], order["no_prior"]) == ([], None)


def test_late_comparison_revises_the_page_once(bench: Bench):
    bench.compares = True
    bench.summariser = bench.another()
    flair = bench.part("1.5")
    bench.answer(flair)
    search(bench, flair, "1.0")
    change = comparison_job(bench, flair)
    bench.turn(1801)
    assert bench.orders[-1]["awaited"] == ["change"]
    bench.answer(change, has_record=False)
    bench.turn(5)
    bench.turn(5000)
    assert [page.figures["parts"] for page in bench.pages] == [{flair: 1}, {flair: 1, change: 1}]


@pytest.mark.parametrize("step", ["", "claim", "event", "publish"])
def test_page_that_promised_a_comparison_is_revised_once_when_the_search_ends_without_a_prior(
    bench: Bench, step: str, monkeypatch: pytest.MonkeyPatch
):
    bench.compares = True
    bench.summariser = bench.another()
    flair = bench.part("1.5")
    bench.answer(flair)
    search(bench, flair, state="waiting")
    bench.turn(1801)
    bench.turn(5000)
    assert [order["awaited"] for order in bench.orders] == [["change"]]
    search(bench, flair)
    if step:
        with monkeypatch.context() as patch:

            def kill(*_: Any, **__: Any) -> None:
                raise Killed

            patch.setattr(module.RunFolder, step, kill)
            bench.summariser.notice(STUDY)
            with pytest.raises(Killed):
                bench.summariser.step()
        bench.restart()
    bench.turn(5)
    bench.turn(5000)
    assert [page.figures["revision"] for page in bench.pages] == [0, 1]
    assert bench.orders[-1]["awaited"] == []
    assert bench.orders[-1]["no_prior"] == "no earlier study has a series that fits"


def test_search_without_a_prior_is_waited_for_and_told(bench: Bench):
    bench.compares = True
    bench.summariser = bench.another()
    flair = bench.part("1.5")
    bench.answer(flair)
    search(bench, flair)
    bench.turn(301)
    assert bench.orders[0]["awaited"] == []
    assert bench.orders[0]["no_prior"] == "no earlier study has a series that fits"


def test_comparison_of_an_earlier_analysis_is_not_on_the_page(bench: Bench):
    bench.compares = True
    bench.summariser = bench.another()
    flair = bench.part("1.5")
    bench.answer(flair)
    search(bench, flair, "1.0")
    bench.answer(comparison_job(bench, flair), has_record=False)
    bench.turn(301)
    bench.rig.reconciler.again(flair, "its images were corrected")
    bench.answer(flair, run=2)
    bench.turn(1801)
    assert bench.pages[-1].figures["parts"] == {flair: 2}
    assert bench.orders[-1]["awaited"] == ["change"], "of the new search"


def test_page_waits_for_no_comparison_where_no_priors_are_looked_for(bench: Bench):
    bench.answer(bench.part("1.5"))
    bench.turn(301)
    assert len(bench.pages) == 1 and bench.orders[0]["awaited"] == []
