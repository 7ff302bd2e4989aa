"""Images of several patients, studies or frames of reference under one Series Instance UID, sent over DICOM."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from dicom_node.errors import StateError
from dicom_node.jobs.states import JobState, SeriesState
from tests.dicom_node.node.test_node import FLAIR, Rig, until

PATIENT = "images of more than one patient in one series"
STUDY = "images of more than one study in one series"
FRAME = "images of more than one frame of reference in one series"
ONE = {"PatientID": "4711", "PatientName": "Phantom^One", "PatientBirthDate": "19700101"}
TWO = {"PatientID": "0815", "PatientName": "Phantom^Two", "PatientBirthDate": "19800101"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    running = Rig(tmp_path_factory.mktemp("node"))
    yield running
    running.stop()


def alter(path: Path, **elements: Any) -> None:
    ds = dcmread(path)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


def send(rig: Rig, folder: Path, *kinds: dict[str, Any], slices: int = 12) -> str:
    """Send a FLAIR series whose slices are of these kinds in turns, and return its Series Instance UID."""
    files = mr_series(folder, shape=(slices, 32, 32), seed=str(folder), **{**FLAIR, **ONE})
    for path, kind in zip(files, itertools.cycle(kinds), strict=False):
        alter(path, **kind)
    uid = str(dcmread(files[0]).SeriesInstanceUID)
    rig.send(files)
    until(lambda: settled(rig, uid), rig.log)
    return uid


def settled(rig: Rig, uid: str) -> bool:
    series = rig.node.store.series(uid)
    return series is not None and series.state != SeriesState.RECEIVING


def state(rig: Rig, uid: str) -> tuple[str, str]:
    series = rig.node.store.series(uid)
    assert series is not None
    return series.state, series.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        (({}, TWO), PATIENT),
        (({}, {"PatientBirthDate": "19700102"}), PATIENT),
        (({"IssuerOfPatientID": "A"}, {"IssuerOfPatientID": "B"}), PATIENT),
        (({"PatientID": ""}, {"PatientID": "", "PatientName": "Phantom^Two"}), PATIENT),
        (({}, {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.99"}), STUDY),
        (({}, {"FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.98"}), FRAME),
    ],
)
def test_mixture_is_held_and_names_nobody(
    rig: Rig, tmp_path: Path, kinds: tuple[dict[str, Any], ...], reason: str
) -> None:
    uid = send(rig, tmp_path / "sent", *kinds)
    assert state(rig, uid) == ("held", reason)
    assert rig.node.store.jobs_of(uid) == []
    assert not any(word in rig.log() for word in ("4711", "0815", "Phantom"))


def test_two_patients_with_24_slices_each_are_no_series_of_48(rig: Rig, tmp_path: Path) -> None:
    uid = send(rig, tmp_path / "sent", {}, TWO, slices=48)
    assert state(rig, uid) == ("held", PATIENT)
    with pytest.raises(StateError, match=r"more than one patient.*can't be released"):
        rig.node.steering.steer("release", uid)
    assert state(rig, uid) == ("held", PATIENT)
    assert rig.node.store.jobs_of(uid) == []


def test_person_may_release_two_frames_of_reference(rig: Rig, tmp_path: Path) -> None:
    uid = send(rig, tmp_path / "sent", {}, {"FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.97"})
    rig.node.steering.steer("release", uid)
    until(lambda: bool(rig.node.store.jobs_of(uid)), rig.log)
    (job,) = rig.node.store.jobs_of(uid)
    assert (job.state, job.note) == (JobState.QUEUED, f"analysed as it is, released by a person: {FRAME}")


@pytest.mark.parametrize(
    "kinds",
    [
        ({}, {"Manufacturer": "Another"}),
        ({"AcquisitionDate": "20260101"}, {"AcquisitionDate": "20260102"}),
        ({"IssuerOfPatientID": "A"}, {}),
        ({}, {"PatientBirthDate": ""}),
        ({}, {"PatientName": "PHANTOM^ONE"}),
        ({"PatientID": "", "PatientBirthDate": ""},),
    ],
)
def test_one_patient_of_one_study_is_one_series(
    rig: Rig, tmp_path: Path, kinds: tuple[dict[str, Any], ...]
) -> None:
    uid = send(rig, tmp_path / "sent", *kinds)
    assert state(rig, uid)[0] == "routed", rig.log()


KIND = st.fixed_dictionaries(
    {
        "PatientID": st.sampled_from(["", "4711", "0815"]),
        "PatientName": st.sampled_from(["Phantom^One", "Phantom^Two"]),
        "PatientBirthDate": st.sampled_from(["", "19700101", "19800101"]),
        "IssuerOfPatientID": st.sampled_from(["", "A", "B"]),
        "StudyInstanceUID": st.sampled_from(["1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"]),
        "FrameOfReferenceUID": st.sampled_from(
            ["", "1.2.826.0.1.3680043.8.498.3", "1.2.826.0.1.3680043.8.498.4"]
        ),
    }
)
NUMBERS = itertools.count()


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(KIND, min_size=2, max_size=3))
def test_no_job_ever_has_two_patients_or_two_studies(
    rig: Rig, tmp_path: Path, kinds: list[dict[str, str]]
) -> None:
    uid = send(rig, tmp_path / f"sent{next(NUMBERS)}", *kinds)
    values = {key: {kind[key] for kind in kinds} for key in kinds[0]}
    several = {key for key, found in values.items() if len(found - {""}) > 1}
    if "" in values["PatientID"] and "PatientName" in several:
        several.add("PatientID")
    patients = bool(several & {"PatientID", "IssuerOfPatientID", "PatientBirthDate"})
    expected = (
        PATIENT
        if patients
        else STUDY
        if "StudyInstanceUID" in several
        else FRAME
        if "FrameOfReferenceUID" in several
        else ""
    )
    jobs = rig.node.store.jobs_of(uid)
    assert bool(jobs) == (not expected)
    if expected:
        assert state(rig, uid) == ("held", expected)
