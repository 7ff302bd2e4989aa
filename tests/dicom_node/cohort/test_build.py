"""A cohort of the node's own studies: the first of each patient, and nothing by which one could be found."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from cohort_factories import DIGEST, found, image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from rig import header, manifest
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.cohort.build import first_studies, row_of
from dicom_node.cohort.percentile import person_of
from dicom_node.cohort.table import COLUMNS, write_cohort
from dicom_node.errors import CohortError
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.results.findings_record import FindingsRecord
from dicom_node.results.manifest import ResultObject
from dicom_node.series.identity import Identity
from dicom_node.spool.spool import Spool

RECORD = FindingsRecord("findings", measurements=found().measurements, pipeline_digest=DIGEST)


class Site:
    """A data folder with answered FLAIR series."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = Spool(root)
        self.store = Store(root / "state.sqlite", self.spool.jobs)

    def answer(self, patient: str, day: str, record: FindingsRecord = RECORD, **facts: str) -> None:
        """Let a series of a patient have been analysed."""
        number = len(list(self.spool.results.iterdir())) + 1
        series, job_id = f"1.2.{number}", f"{number:032x}"
        one = replace(
            header(series=series), study_date=day, identity=Identity(patient_id=patient, birth_date="b")
        )
        self.store.add_image(one, f"series/{number}/1.dcm", "SCANNER", 0.0)
        self.store.move_series(series, SeriesState.ROUTED)
        self.store.create_job(
            job_id=job_id,
            series_uid=series,
            pipeline="flair",
            rule="",
            state=JobState.QUEUED,
            settings={},
            images=[f"series/{number}/1.dcm"],
            note=facts.pop("note", ""),
        )
        for state in (JobState.RUNNING, JobState.DELIVERING):
            self.store.move_job(job_id, state)
        folder = self.spool.results / job_id
        folder.mkdir()
        record.write(folder)
        ds = image(StudyDate=day, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34", SOPInstanceUID="1.3", **facts)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(folder / "sr.dcm", enforce_file_format=True)
        item = ResultObject("sr", "sr.dcm", "1.2", "1.3", "1.4", "1.5", "0" * 64)
        replace(manifest(job_id, 1, "findings"), objects=(item,)).write(folder)


@pytest.fixture
def site(tmp_path: Path) -> Any:
    made = Site(tmp_path / "data")
    yield made
    made.store.close()


def test_each_patient_counts_once_with_the_first_study(site: Site) -> None:
    for n in range(20):
        site.answer(f"p{n}", "20260301")
    later = replace(RECORD, measurements=found(99.0).measurements)
    site.answer("p0", "20260901", later)
    site.answer("p1", "20250901", later)
    rows = first_studies(site.store, site.spool, "MS", "Hospital").rows
    assert len(rows) == 20 and sorted(one.volume_ml for one in rows)[-2:] == [10.5, 99.0]


def test_who_has_no_first_study_to_compare_with_is_counted_by_reason(site: Site) -> None:
    for n in range(20):
        site.answer(f"p{n}", "20260301")
    site.answer("child", "20260301", PatientAge="012Y")
    site.answer("gap", "20260301", note="2 images missing")
    site.answer("old", "20260301", replace(RECORD, pipeline_digest=""))
    site.answer("", "20260301")
    built = first_studies(site.store, site.spool, "MS", "Hospital")
    assert len(built.rows) == 20 and sorted(built.left_out.values()) == [1, 1, 1]
    assert "below 18 years" in built.left_out and "with images missing" in built.left_out


def test_no_file_is_made_of_fewer_than_twenty_patients(site: Site) -> None:
    site.answer("p1", "20260301")
    with pytest.raises(CohortError, match=r"1 patients .* at least 20 are needed"):
        first_studies(site.store, site.spool, "MS", "Hospital")


def test_command_needs_leave_and_writes_the_file(site: Site, tmp_path: Path) -> None:
    for n in range(20):
        site.answer(f"p{n}", "20260301")
    site.store.close()
    config, out = tmp_path / "node.toml", tmp_path / "own.csv"
    build = ["models", "cohort", "build", str(out), "--source", "Hospital", "--config", str(config)]
    config.write_text(f'[node]\ndata = "{site.root}"\n')
    refused = CliRunner().invoke(app, build)
    assert isinstance(refused.exception, CohortError) and "[cohort] build is false" in str(refused.exception)
    assert not out.exists()
    config.write_text(f'[node]\ndata = "{site.root}"\n[cohort]\nbuild = true\n')
    assert CliRunner().invoke(app, build).exit_code == 0
    assert len(out.read_text().splitlines()) == 21


WORD = st.text("ABCDEFGHJKLMNOPQRSTUVWXYZ", min_size=6, max_size=12)
DAY = st.dates(date(1990, 1, 1), date(2040, 1, 1)).map(lambda day: day.strftime("%Y%m%d"))


@given(
    names=st.lists(WORD, min_size=2, max_size=12, unique=True),
    days=st.lists(DAY, min_size=12, max_size=12),
    data=st.data(),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_file_holds_nothing_that_names_a_patient_nor_the_order_in_which_they_came(
    names: list[str], days: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = []
    for name, day in zip(names, days, strict=False):
        age = data.draw(st.integers(18, 110))
        facts = {"PatientName": name, "PatientID": name, "StudyDate": day, "PatientAge": f"{age:03d}Y"}
        measured = replace(
            RECORD, measurements=found(data.draw(st.floats(0.1, 90))).measurements, reason=name
        )
        one = row_of(measured, person_of(image(AccessionNumber=name, **facts)), "MS", "Hospital")
        assert not isinstance(one, str)
        rows.append(one)
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(rows, folder / "one.csv")
    write_cohort(data.draw(st.permutations(rows)), folder / "two.csv")
    text = (folder / "one.csv").read_text()
    assert text == (folder / "two.csv").read_text()
    assert not any(name in text for name in names)
    table = list(csv.DictReader(text.splitlines()))
    assert all(tuple(line) == COLUMNS for line in table)
    assert all(18 <= int(line["age"]) <= 90 and len(line["volume_ml"].split(".")[1]) <= 2 for line in table)
