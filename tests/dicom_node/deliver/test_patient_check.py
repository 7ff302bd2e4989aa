"""The question before sending: is the study at the destination of the patient whose results are sent?"""

from __future__ import annotations

import pytest
from pydicom import dcmread
from pynetdicom.sop_class import SegmentationStorage

from dicom_node.deliver.c_find import FindRefusedError, c_find_patients
from dicom_node.deliver.patient_check import OTHER_PATIENT, jobs_of_other_patients
from dicom_node.jobs.states import JobState
from tests.dicom_node.deliver.test_outbox import JOB, PATIENT, STUDY, Bench

OURS = {"PatientID": "4711"}
THEIRS = {"PatientID": "0815"}
ROLES = ["seg", "sr", "text-sr"]


@pytest.fixture
def bench(tmp_path, make_object, dataset_bytes, quick):
    bench = Bench(tmp_path / "data", make_object, dataset_bytes, quick)
    yield bench
    bench.close()


def name(bench, manifest, **elements):
    """Give the objects of a job these elements."""
    for item in manifest.objects:
        path = bench.spool.results / JOB / item.path
        ds = dcmread(path)
        for keyword, value in elements.items():
            setattr(ds, keyword, value)
        ds.save_as(path)


def deliver(bench, pacs, there, ours=None, **options):
    pacs.patients = lambda study_uid: there
    job, manifest = bench.finished_job(ROLES)
    name(bench, manifest, **(ours or {}))
    outbox = bench.outbox(pacs, **options)
    outbox.add(job, manifest)
    return outbox


@pytest.mark.parametrize(
    ("ours", "there"),
    [
        ({}, [OURS]),
        ({}, [{"PatientID": " 4711 ", "IssuerOfPatientID": "A", "PatientBirthDate": "19700101"}]),
        ({"IssuerOfPatientID": "A", "PatientBirthDate": "19700101"}, [{"PatientID": "4711", "PatientBirthDate": ""}]),
        ({"PatientID": ""}, [THEIRS]),
        ({}, [{"PatientID": ""}]),
        ({}, [{}]),
    ],
)  # fmt: skip
def test_study_of_the_same_patient_gets_the_results(bench, make_pacs, ours, there):
    pacs = make_pacs()
    deliver(bench, pacs, there, ours)
    bench.wait_settled((JOB, True))
    assert (pacs.studies_asked, len(pacs.received)) == ([STUDY], 3)
    assert bench.events("unverified") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "there", "differing"),
    [
        ({}, [THEIRS], "patient ID differs"),
        ({}, [OURS, THEIRS], "patient ID differs"),
        (
            {"IssuerOfPatientID": "A"},
            [{"PatientID": "4711", "IssuerOfPatientID": "B"}],
            "issuer of patient ID differs",
        ),
        (
            {"PatientBirthDate": "19700101"},
            [{"PatientID": "0815", "PatientBirthDate": "19800101"}],
            "patient ID, birth date differ",
        ),
    ],
)
def test_study_of_another_patient_holds_the_results_and_names_nobody(
    bench, make_pacs, ours, there, differing
):
    pacs = make_pacs()
    deliver(bench, pacs, there, ours)
    bench.wait_settled((JOB, False))
    assert pacs.received == []
    [line] = bench.events("other-patient")
    assert line["objects"] == 3
    assert line["reason"].startswith(f"{OTHER_PATIENT} ({differing}): ")
    assert line["reason"].endswith(f"then dicom-node retry {JOB[:8]}")
    assert bench.events("undelivered")[0]["reason"] == line["reason"]
    assert not any(word in "".join(bench.lines()) for word in ("4711", "0815", "1970", "1980", "Doe"))
    assert jobs_of_other_patients(bench.store, "pacs0") == (1, 0)


@pytest.mark.slow
def test_retry_asks_again_once_the_study_was_corrected(bench, make_pacs):
    pacs, other = make_pacs(), make_pacs()
    pacs.patients = lambda study_uid: [THEIRS]
    job, manifest = bench.finished_job(ROLES)
    outbox = bench.outbox(pacs, other)
    outbox.add(job, manifest)
    bench.wait_settled((JOB, False))
    assert (len(pacs.received), len(other.received)) == (0, 3), "the other destination has its own study"
    pacs.patients = lambda study_uid: [OURS]
    bench.store.move_job(JOB, JobState.UNDELIVERED)
    outbox.again(JOB)
    bench.wait_settled((JOB, False), (JOB, True))
    assert (len(pacs.received), len(other.received)) == (3, 3)
    assert jobs_of_other_patients(bench.store, "pacs0") == (0, 1)


def test_study_that_is_not_there_is_delivered_with_a_line(bench, make_pacs):
    deliver(bench, make_pacs(), [])
    bench.wait_settled((JOB, True))
    [line] = bench.events("unverified")
    assert (line["destination"], line["objects"]) == ("pacs0", 3)
    assert "the study is not there" in line["reason"]


def test_study_that_is_required_is_waited_for(bench, make_pacs):
    pacs, other = make_pacs(), make_pacs()
    pacs.patients = lambda study_uid: []
    job, manifest = bench.finished_job(ROLES)
    outbox = bench.outbox(pacs, other, backoff=PATIENT, verify_patient="required")
    outbox.add(job, manifest)
    [line] = bench.wait_event("delivery-retry")
    assert (line["destination"], line["objects"]) == ("pacs0", 3)
    assert "not there yet" in line["reason"]
    bench.wait_event("delivered")
    assert (len(pacs.received), len(other.received)) == (0, 3)
    assert {row.reason for row in outbox._states.rows(JOB) if row.destination == "pacs0"} == {line["reason"]}
    pacs.patients = lambda study_uid: [OURS]
    outbox.wake()
    bench.wait_settled((JOB, True))
    assert len(pacs.received) == 3


def test_off_asks_nothing(bench, make_pacs):
    pacs = make_pacs()
    deliver(bench, pacs, [THEIRS], verify_patient="off")
    bench.wait_settled((JOB, True))
    assert (pacs.studies_asked, len(pacs.received)) == ([], 3)


@pytest.mark.parametrize("find", [False, 0xA900, "abort"])
def test_pacs_that_answers_no_such_question_gets_the_results_and_is_told_of_once(bench, make_pacs, find):
    pacs = make_pacs(find=bool(find))
    pacs.study_status = find
    outbox = deliver(bench, pacs, [THEIRS])
    bench.wait_settled((JOB, True))
    second = "cd34ef56" * 4
    outbox.add(*bench.finished_job(["text-sr"], job_id=second))
    bench.wait_settled((JOB, True), (second, True))
    assert len(pacs.studies_asked) == {False: 0, 0xA900: 1, "abort": 3}[find]
    [line] = bench.events("unverified")
    assert "allow queries by NODE there" in line["reason"]


def test_required_question_that_gets_no_answer_keeps_the_results(bench, make_pacs):
    pacs = make_pacs(find=False)
    deliver(bench, pacs, [], verify_patient="required", backoff=PATIENT)
    [line] = bench.wait_event("delivery-retry")
    assert 'or set verify_patient = "known"' in line["reason"]
    assert pacs.received == []


def test_dead_destination_is_tried_again_as_before(bench, closed_port):
    job, manifest = bench.finished_job(ROLES)
    bench.outbox(closed_port, backoff=PATIENT).add(job, manifest)
    [line] = bench.wait_event("delivery-retry")
    assert "connection refused" in line["reason"]


def test_answer_about_another_study_is_none(make_pacs):
    pacs = make_pacs()
    pacs.patients = lambda study_uid: [{"StudyInstanceUID": "1.9", **THEIRS}]
    assert c_find_patients(pacs.address, "NODE", STUDY) == set()


def test_peer_without_c_find_is_not_one_without_the_study(make_pacs):
    with pytest.raises(FindRefusedError, match="offers no C-FIND"):
        c_find_patients(make_pacs(find=False, classes=[SegmentationStorage]).address, "NODE", STUDY)
