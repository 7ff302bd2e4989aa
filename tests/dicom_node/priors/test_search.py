"""The search for earlier studies against a PACS that behaves, and one that does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from rig import ReadHere

from dicom_node.intake.parser import headers_of
from dicom_node.jobs.rebuild import rebuild
from dicom_node.jobs.states import SeriesState
from dicom_node.jobs.why import why
from dicom_node.priors.search import Searcher
from dicom_node.spool.prior_searches import PriorSearch, write_search
from tests.priors_rig import Bench, RigPacs, all_of, busy, flair, nothing, run_later, until

pytestmark = pytest.mark.slow

NOW, BEFORE, LONG_BEFORE = "20260301", "20250401", "20240301"


@pytest.fixture
def pacs() -> Iterator[RigPacs]:
    pacs = RigPacs()
    yield pacs
    pacs.stop()


@pytest.fixture
def bench_with(tmp_path: Path, pacs: RigPacs) -> Iterator[Callable[..., Bench]]:
    begun: list[Bench] = []

    def begin(**section: Any) -> Bench:
        begun.append(Bench(tmp_path / "data", pacs, **section))
        return begun[-1]

    yield begin
    for bench in begun:
        bench.stop()


@pytest.fixture
def bench(bench_with: Callable[..., Bench]) -> Bench:
    return bench_with()


def told(bench: Bench) -> str:
    """All that the node wrote down of its work, but for images and databases."""
    return (bench.root / "worklog.log").read_text()


@pytest.mark.parametrize("retrieve", ["move", "get"])
def test_prior_is_found_kept_and_not_analysed(
    bench_with: Callable[..., Bench], pacs: RigPacs, tmp_path: Path, retrieve: str
) -> None:
    bench = bench_with(retrieve=retrieve)
    before = flair(tmp_path / "before", BEFORE)
    pacs.has(before, flair(tmp_path / "t1", BEFORE, SeriesDescription="t1_mprage"))
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.search()
    (prior,) = bench.found(job)
    row = bench.series(before)
    assert row is not None and row.state == SeriesState.PRIOR
    assert (prior.series_uid, prior.days, len(prior.images)) == (row.series_uid, 334, 6)
    assert {path.parent for path in prior.images} == {prior.folder}
    assert bench.jobs(row.series_uid) == []
    assert pacs.asked == [row.series_uid]
    (line,) = bench.events("prior-found")
    assert (line["series"], line["days"], line["images"]) == (row.id[:8], 334, 6)
    text = "\n".join(line for line, _ in why(bench.root, job.id))
    assert "priors: " in text and "1 prior" in text and "2025-04-01" in text
    record = json.dumps(bench.record(job).steps)
    assert not any(secret in told(bench) + text + record for secret in ("P-1", "Doe", "19800101"))


def test_pacs_that_does_not_know_the_node_is_told_of_with_the_way_out(
    bench: Bench, pacs: RigPacs, tmp_path: Path
) -> None:
    pacs.has(flair(tmp_path / "before", BEFORE))
    job = bench.answered(flair(tmp_path / "now", NOW))
    pacs.node = None
    bench.search()
    assert bench.record(job).state == "done"
    (line,) = bench.events("prior-none")
    assert "enter LESIONNODE there as one" in str(line["reason"]) and "A801" in str(line["reason"])


def test_series_that_is_whole_counts_though_the_pacs_warns(
    bench: Bench, pacs: RigPacs, tmp_path: Path
) -> None:
    before = flair(tmp_path / "before", BEFORE)
    pacs.has(before)

    def with_warning(images: list[Any]) -> Iterator[Any]:
        other = dcmread(before[0])
        other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"  # CT, which the PACS can't send
        yield len(images) + 1
        for image in (*images, other):
            yield 0xFF00, image

    pacs.move = with_warning
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.search()
    assert len(bench.found(job)) == 1
    assert any("B000" in text for _, text in bench.record(job).steps)


def test_series_that_is_sent_twice_is_one_prior(bench: Bench, pacs: RigPacs, tmp_path: Path) -> None:
    before = flair(tmp_path / "before", BEFORE)
    pacs.has(before)
    pacs.before_sending = pacs.send
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.search()
    (prior,) = bench.found(job)
    assert len(prior.images) == 6 and bench.jobs(prior.series_uid) == []


def test_images_that_come_after_the_wait_are_an_ordinary_series(
    bench: Bench, pacs: RigPacs, tmp_path: Path
) -> None:
    before = flair(tmp_path / "before", BEFORE)
    uid = str(dcmread(before[0]).SeriesInstanceUID)
    pacs.has(before)
    pacs.move = nothing
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.let_wait_pass(when=lambda: True)
    bench.search()
    record = bench.record(job)
    assert (record.state, record.tries) == ("waiting", 1)
    assert "nothing of the series came within 300 s" in record.reason
    path = bench.root / "priors" / "requests" / f"{bench.spool.series_folder(uid).name}.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"asked_at": 1.0, "valid_until": 31.0}))  # long ago
    pacs.send(pacs.images)
    assert len(until(lambda: bench.jobs(uid), "a job of its own")) == 1


def test_busy_pacs_is_asked_again_after_one_five_and_twenty_five_minutes(
    bench: Bench, pacs: RigPacs, tmp_path: Path
) -> None:
    pacs.has(flair(tmp_path / "before", BEFORE))
    pacs.move = busy
    job = bench.answered(flair(tmp_path / "now", NOW))
    waits = []
    for _ in range(4):
        bench.search()
        waits += [round(bench.record(job).next_at - bench.record(job).steps[-1][0] - bench.now_s)]
        bench.now_s += 3600
    assert waits[:3] == [60, 300, 1500]
    assert "given up after 4 tries" in bench.record(job).reason
    assert [line["wait_s"] for line in bench.events("prior-retry")] == [60, 300, 1500]


def test_prior_comes_at_the_second_try_and_is_kept_as_one(
    bench: Bench, pacs: RigPacs, tmp_path: Path
) -> None:
    before = flair(tmp_path / "before", BEFORE)
    pacs.has(before)

    def half(images: list[Any]) -> Iterator[Any]:
        yield len(images)
        for image in images[:2] + images[4:]:
            yield 0xFF00, image
        yield 0xA702, None

    pacs.move = half
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.let_wait_pass(
        when=lambda: (
            pacs.move is half and (one := bench.series(before)) is not None and one.state == "ignored"
        )
    )
    bench.search()
    row = bench.series(before)
    assert bench.found(job) == () and "not whole" in bench.record(job).reason
    pacs.move = all_of
    bench.now_s += 70.0
    bench.search()
    assert row is not None
    assert len(bench.found(job)) == 1 and bench.jobs(row.series_uid) == []


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        ({"PatientBirthDate": "19810101"}, "birth date differs"),
        ({"PatientBirthDate": ""}, "birth date missing"),
        ({"PatientSex": "M"}, "sex differs"),
    ],
)
def test_study_of_another_person_is_not_asked_for(
    bench: Bench, pacs: RigPacs, tmp_path: Path, element: dict[str, str], reason: str
) -> None:
    pacs.has(flair(tmp_path / "before", BEFORE))
    pacs.says = element
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.search()
    assert pacs.asked == [] and bench.found(job) == ()
    assert [line["reason"] for line in bench.events("prior-refused")] == [reason]
    assert reason in "\n".join(text for _, text in bench.record(job).steps)


def test_images_of_another_person_are_not_used_whatever_the_pacs_says(
    bench: Bench, pacs: RigPacs, tmp_path: Path
) -> None:
    before = flair(tmp_path / "before", BEFORE, PatientBirthDate="19810101")
    pacs.has(before)
    pacs.says = {"PatientBirthDate": "19800101"}
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.search()
    row = bench.series(before)
    assert row is not None and row.state == SeriesState.PRIOR and bench.jobs(row.series_uid) == []
    assert bench.found(job) == ()
    assert [line["reason"] for line in bench.events("prior-refused")] == ["birth date differs"]


@pytest.mark.parametrize("ignore", [False, True])
def test_issuer_that_differs_counts_unless_it_is_ignored(
    bench_with: Callable[..., Bench], pacs: RigPacs, tmp_path: Path, ignore: bool
) -> None:
    bench = bench_with(ignore_issuer=ignore)
    pacs.has(flair(tmp_path / "before", BEFORE, IssuerOfPatientID="PACS"))
    job = bench.answered(flair(tmp_path / "now", NOW, IssuerOfPatientID="CLINIC"))
    bench.search()
    assert len(bench.found(job)) == ignore


def test_own_results_and_what_the_rules_do_not_want_are_no_priors(
    bench: Bench, pacs: RigPacs, tmp_path: Path
) -> None:
    ours = flair(tmp_path / "ours", BEFORE, SeriesDescription="RESEARCH FLAIR outlines")
    knee = flair(tmp_path / "knee", LONG_BEFORE, SeriesDescription="FLAIR", BodyPartExamined="KNEE")
    pacs.has(ours, knee)
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.search()
    row = bench.series(knee)
    assert pacs.asked == [str(dcmread(knee[0]).SeriesInstanceUID)]
    assert row is not None and row.state == SeriesState.IGNORED and bench.jobs(row.series_uid) == []
    assert bench.found(job) == () and bench.record(job).state == "done"


def test_flair_without_a_name_that_tells_is_found_by_its_times(
    bench: Bench, pacs: RigPacs, tmp_path: Path
) -> None:
    pacs.has(flair(tmp_path / "before", BEFORE, SeriesDescription="ax 3mm"))
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.search()
    assert len(bench.found(job)) == 1


def test_request_is_written_before_the_pacs_is_asked_and_outlasts_a_crash(
    bench: Bench, pacs: RigPacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = flair(tmp_path / "before", BEFORE)
    uid = str(dcmread(before[0]).SeriesInstanceUID)
    pacs.has(before)
    job = bench.answered(flair(tmp_path / "now", NOW))

    class Killed(BaseException):
        """The node ends here."""

    def killed(*_: object) -> None:
        assert bench.intake.prior_requests.of(uid) is not None
        raise Killed

    monkeypatch.setattr(Searcher, "_retrieve", killed)
    with pytest.raises(Killed):
        bench.search()
    monkeypatch.undo()
    bench.stop()
    (bench.root / "state.sqlite").rename(tmp_path / "damaged")  # with its database, too
    rebuild(bench.root / "state.sqlite", bench.root, partial(headers_of, ReadHere(bench.spool)))
    bench.start()
    pacs.send(pacs.images)
    row = until(lambda: (one := bench.series(before)) and one.state != "receiving" and one, "a verdict")
    assert row.state == SeriesState.PRIOR and bench.jobs(uid) == []
    write_search(bench.spool, PriorSearch(job.id, 1))
    bench.priors.start()
    until(lambda: bench.record(job).state == "done", "the search goes on")
    assert pacs.asked == []
    assert [prior.series_uid for prior in bench.found(job)] == [uid]


@pytest.mark.parametrize(
    ("other_kind", "told", "asked"),
    [
        ("", False, ["199"]),
        ("199", False, ["199", "198"]),
        ("199", True, ["198"]),
        ("199 198 197 196", True, ["199"]),
    ],
)
def test_of_two_hundred_old_studies_as_many_are_asked_for_as_tell_the_newest_that_is_alike(
    bench: Bench, pacs: RigPacs, tmp_path: Path, other_kind: str, told: bool, asked: list[str]
) -> None:
    first = flair(tmp_path / "first", "20220101", shape=(6, 8, 8))
    images = [dcmread(path) for path in first]
    for number in range(200):
        day = f"{2022 + number // 60}{1 + number % 60 // 5:02d}{1 + number % 5 * 3:02d}"
        for image in images:
            copy = dcmread(str(image.filename))
            copy.StudyDate, copy.AcquisitionDate = day, day
            copy.StudyInstanceUID, copy.SeriesInstanceUID = f"1.2.7.{number}", f"1.2.8.{number}"
            copy.SOPInstanceUID = f"{image.SOPInstanceUID}.{number}"[-60:].lstrip(".0")
            copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
            copy.MagneticFieldStrength = 1.5 if str(number) in other_kind.split() else 3.0
            pacs.images.append(copy)
    pacs.hides = [] if told else ["MagneticFieldStrength"]
    job = bench.answered(flair(tmp_path / "now", "20260601", MagneticFieldStrength=3.0))
    bench.search()
    assert pacs.asked == [f"1.2.8.{number}" for number in asked]
    assert [prior.series_uid for prior in bench.found(job)][:1] == pacs.asked[-1:]
    assert len(bench.found(job)) == len(asked)
    assert bench.record(job).choice.startswith("chosen: the study of 2025-")
    assert ("the newest: none within 3 years" in bench.record(job).choice) == (len(other_kind) > 3)
    assert sum(ds.QueryRetrieveLevel == "SERIES" for ds in pacs.found) == 4
    assert len(bench.record(job).steps) < 20


def test_two_current_studies_at_once_share_a_prior_that_is_asked_for_once(
    bench_with: Callable[..., Bench], pacs: RigPacs, tmp_path: Path
) -> None:
    bench = bench_with(concurrent=2)
    pacs.has(flair(tmp_path / "before", BEFORE))
    jobs = [bench.answered(flair(tmp_path / name, day)) for name, day in (("one", NOW), ("two", "20260302"))]
    other = run_later(bench.search)
    bench.search()
    other.join(200)
    assert len(pacs.asked) == 1
    assert [len(bench.found(job)) for job in jobs] == [1, 1]


def test_prior_that_the_pacs_has_sent_by_itself_serves_without_being_asked_for(
    bench: Bench, pacs: RigPacs, tmp_path: Path
) -> None:
    before = flair(tmp_path / "before", BEFORE)
    pacs.has(before)
    bench.answered(before)
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.search()
    assert pacs.asked == [] and [prior.days for prior in bench.found(job)] == [334]


def test_the_same_images_under_other_uids_are_no_prior(bench: Bench, pacs: RigPacs, tmp_path: Path) -> None:
    current = flair(tmp_path / "now", NOW)
    times = {path.name: dcmread(path).AcquisitionTime for path in current}
    again = flair(tmp_path / "again", BEFORE)
    for path in again:
        ds = dcmread(path)
        ds.AcquisitionDate, ds.AcquisitionTime = NOW, times[path.name]
        ds.save_as(path)
    pacs.has(again)
    job = bench.answered(current)
    bench.search()
    assert bench.found(job) == ()
    assert "the same images under other UIDs" in "\n".join(text for _, text in bench.record(job).steps)


def test_prior_is_made_an_ordinary_series_by_a_person(bench: Bench, pacs: RigPacs, tmp_path: Path) -> None:
    before = flair(tmp_path / "before", BEFORE)
    pacs.has(before)
    bench.answered(flair(tmp_path / "now", NOW))
    bench.search()
    row = bench.series(before)
    assert row is not None and row.state == SeriesState.PRIOR
    bench.intake.route_again(row)
    assert len(until(lambda: bench.jobs(row.series_uid), "a job")) == 1


def test_nothing_is_asked_outside_the_window(
    bench_with: Callable[..., Bench], pacs: RigPacs, tmp_path: Path
) -> None:
    begin = datetime.now() + timedelta(hours=2)
    window = f"{begin:%H}:00-{begin + timedelta(hours=1):%H}:00"
    if window.endswith("-00:00"):
        window = window.replace("-00:00", "-24:00")
    bench = bench_with(window=window)
    pacs.has(flair(tmp_path / "before", BEFORE))
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.search()
    assert pacs.found == [] and bench.record(job).state == "waiting" and bench.record(job).tries == 0
    bench.now_s = bench.record(job).next_at - datetime.now().timestamp() + 1
    bench.search()
    assert len(bench.found(job)) == 1
