"""Studies with expert masks become a data set; what does not fit is refused with its line."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from factories import mr_series
from pydicom import dcmread

import pipelines.training.data_sets.extraction
from dicom_node.results.context import ResultContext
from dicom_node.results.segmentation import build_segmentation
from dicom_node.results.source import sources_of
from dicom_node.series.volume import load_series
from pipelines.brain.grid import Grid
from pipelines.errors import DataSetError
from pipelines.flair.preprocess import Brain
from pipelines.training.data_sets.cases import load_case, read_index
from pipelines.types import Findings, ModelCard, Segment, Volume
from worker.dataset import import_dicom

CONTEXT = ResultContext(
    node_id="node-1",
    node_version="0.1.0",
    job_id="3f9a1c20" * 4,
    run=1,
    pipeline="flair",
    title="FLAIR lesions",
    created_at=datetime(2026, 11, 21, 8, 12, 3, tzinfo=UTC),
)
CARD = ModelCard("expert", "1", "sha256:" + "ab" * 32, "1.2.3.4", "real", "manual segmentation")
BOX = (slice(3, 6), slice(20, 26), slice(30, 38))
HEADER = "study,patient,label,age,sex\n"


@pytest.fixture(autouse=True)
def brain_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(volume: Volume) -> Brain | None:
        mask = volume.array > 0
        k, j, i = volume.array.shape
        grid = Grid((k, j, i), volume.affine)
        return Brain(grid, (slice(0, k), slice(0, j), slice(0, i)), grid, volume.array, mask)

    monkeypatch.setattr(pipelines.training.data_sets.extraction, "find_brain", found)
    monkeypatch.setattr(pipelines.training.data_sets.extraction, "without_bias", lambda brain: brain.array)


def study(
    folder: Path, *, name: str = "Lesion", code: str = "lesion_of_brain", masked: bool = True, **series: Any
) -> tuple[str, str]:
    """A FLAIR and, by default, its mask; return the study's and the series' UID."""
    sources = mr_series(folder / "flair", PatientName="DOE^JANE", PatientID="4711", **series)
    first = dcmread(sources[0])
    if masked:
        loaded = load_series(sources)
        assert loaded.volume is not None
        mask = np.zeros(loaded.volume.array.shape, bool)
        mask[BOX] = True
        findings = Findings(status="findings", segments=(Segment(name, code, mask),), models=(CARD,))
        seg = build_segmentation(findings, loaded, sources_of(loaded), CONTEXT)
        seg.save_as(folder / "seg.dcm", enforce_file_format=True)
    return str(first.StudyInstanceUID), str(first.SeriesInstanceUID)


def index(folder: Path, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "studies.csv").write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "geometry",
    [{}, {"orientation": "sagittal"}, {"orientation": "oblique", "reversed": True}, {"enhanced": True}],
    ids=["axial", "sagittal", "oblique, reversed", "enhanced"],
)
def test_study_becomes_a_case_with_its_mask_voxel_by_voxel(tmp_path: Path, geometry: dict[str, Any]) -> None:
    uid, _ = study(tmp_path / "in" / "a", **geometry)
    lines: list[str] = []
    names = import_dicom(index(tmp_path / "in", f"{uid},P01,MS,34,F"), tmp_path / "out", lines.append)
    assert names == ["P01-1"]
    assert len(lines) == 1
    entry = read_index(tmp_path / "out")[0]
    assert (entry.case, entry.patient, entry.label, entry.age, entry.sex) == ("P01-1", "P01", "MS", 34.0, "F")
    assert entry.lesions is not None
    truth = np.asarray(nib.load(entry.lesions).dataobj).transpose(2, 1, 0)
    expected = np.zeros(truth.shape, bool)
    expected[BOX] = True
    assert np.array_equal(truth > 0, expected)
    source = load_series(sorted((tmp_path / "in" / "a" / "flair").glob("*.dcm"))).volume
    assert source is not None
    flair = nib.load(entry.flair)
    assert np.array_equal(np.asarray(flair.dataobj).transpose(2, 1, 0), source.array)
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ flair.affine, source.affine, atol=1e-4)
    assert load_case(entry).lesions is not None


def test_nothing_that_was_written_names_the_patient(tmp_path: Path) -> None:
    uid, _ = study(tmp_path / "in" / "Doe Jane")
    import_dicom(index(tmp_path / "in", f"{uid},P01,MS,,"), tmp_path / "out")
    written = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in written] == [
        "P01-1_brain.nii.gz",
        "P01-1_flair.nii.gz",
        "P01-1_lesions.nii.gz",
        "index.csv",
    ]
    text = (tmp_path / "out" / "index.csv").read_text()
    for secret in ("DOE", "Doe", "JANE", "4711", uid):
        assert secret not in text
    header = nib.load(tmp_path / "out" / "P01-1_flair.nii.gz").header
    assert not bytes(header["descrip"]).strip(b"\0")


def test_two_studies_of_a_patient_stay_one_patient(tmp_path: Path) -> None:
    first, _ = study(tmp_path / "in" / "a", seed="a")
    study(tmp_path / "in" / "b", seed="b", masked=False)
    import_dicom(index(tmp_path / "in", f"{first},P01,MS,,", "b,P01,MS,,"), tmp_path / "out")
    entries = read_index(tmp_path / "out")
    assert [(entry.case, entry.patient) for entry in entries] == [("P01-1", "P01"), ("P01-2", "P01")]
    assert [entry.lesions is None for entry in entries] == [False, True]


def test_mask_of_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    uid, _ = study(tmp_path / "in" / "a")
    seg = dcmread(tmp_path / "in" / "a" / "seg.dcm")
    seg.FrameOfReferenceUID = "1.2.3"
    seg.save_as(tmp_path / "in" / "a" / "seg.dcm")
    with pytest.raises(DataSetError, match="line 2: the Segmentation lies in another frame of reference"):
        import_dicom(index(tmp_path / "in", f"{uid},P01,MS,,"), tmp_path / "out")


def test_mask_beside_the_slices_is_refused(tmp_path: Path) -> None:
    uid, _ = study(tmp_path / "in" / "a")
    seg = dcmread(tmp_path / "in" / "a" / "seg.dcm")
    position = seg.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence[0]
    x, y, z = position.ImagePositionPatient
    position.ImagePositionPatient = [x, y, z + 1.5]
    seg.save_as(tmp_path / "in" / "a" / "seg.dcm")
    with pytest.raises(DataSetError, match="line 2: a plane of the Segmentation is not one of the FLAIR's"):
        import_dicom(index(tmp_path / "in", f"{uid},P01,MS,,"), tmp_path / "out")


def test_mask_of_something_else_is_refused(tmp_path: Path) -> None:
    uid, _ = study(tmp_path / "in" / "a")
    seg = dcmread(tmp_path / "in" / "a" / "seg.dcm")
    seg.SegmentSequence[0].SegmentLabel = "Thalamus"
    seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning = "Thalamus"
    seg.save_as(tmp_path / "in" / "a" / "seg.dcm")
    with pytest.raises(DataSetError, match="no segment of the Segmentation has a label or type"):
        import_dicom(index(tmp_path / "in", f"{uid},P01,MS,,"), tmp_path / "out")


def test_study_without_flair_is_refused(tmp_path: Path) -> None:
    uid, _ = study(
        tmp_path / "in" / "a", masked=False, SeriesDescription="t1_mprage", InversionTime=900.0, EchoTime=3.0
    )
    with pytest.raises(DataSetError, match="line 2: no FLAIR series"):
        import_dicom(index(tmp_path / "in", f"{uid},P01,MS,,"), tmp_path / "out")


def test_of_two_flairs_the_index_must_name_one(tmp_path: Path) -> None:
    uid, first = study(tmp_path / "in" / "a")
    mr_series(tmp_path / "in" / "a" / "second", series_number=2)
    with pytest.raises(DataSetError, match="line 2: 2 FLAIR series"):
        import_dicom(index(tmp_path / "in", f"{uid},P01,MS,,"), tmp_path / "out")
    import_dicom(index(tmp_path / "in", f"{first},P01,MS,,"), tmp_path / "named")
    assert read_index(tmp_path / "named")[0].lesions is not None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1.2.3,P01,MS,,", "line 2: no DICOM files of study 1.2.3"),
        ("..,P01,MS,,", "line 2: no DICOM files of study"),
        ("a,Doe Jane,MS,,", "line 2: the patient's alias has letters"),
        ("a,P01,MOG,,", "line 2: label 'MOG' is not MS, NMOSD or none"),
        ("a,P01,MS,130,", "line 2: age '130' is not a number of years from 0 to 120"),
        ("a,P01,MS,,female", "line 2: sex 'female' is not M, F, O"),
        (",P01,MS,,", "line 2: no study"),
    ],
)
def test_mistake_in_the_index_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataSetError, match=message):
        import_dicom(index(tmp_path / "in", line), tmp_path / "out")


def test_missing_slice_is_told_with_its_line(tmp_path: Path) -> None:
    uid, _ = study(tmp_path / "in" / "a", masked=False)
    sorted((tmp_path / "in" / "a" / "flair").glob("*.dcm"))[5].unlink()
    with pytest.raises(DataSetError, match=r"line 2: .*missing"):
        import_dicom(index(tmp_path / "in", f"{uid},P01,MS,,"), tmp_path / "out")


def test_folder_without_an_index_or_with_a_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"no .*studies\.csv"):
        import_dicom(tmp_path, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.csv").touch()
    with pytest.raises(DataSetError, match="holds a data set already"):
        import_dicom(index(tmp_path, "a,P01,MS,,"), tmp_path / "out")


def test_index_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "studies.csv").write_bytes("study,patient\nMüller,P01\n".encode("latin-1"))
    with pytest.raises(DataSetError, match=r"studies\.csv cannot be read .* save it as CSV in UTF-8"):
        import_dicom(tmp_path, tmp_path / "out")


def test_head_without_a_brain_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.training.data_sets.extraction, "find_brain", lambda volume: None)
    uid, _ = study(tmp_path / "in" / "a", masked=False)
    with pytest.raises(DataSetError, match="line 2: there is no brain in the FLAIR"):
        import_dicom(index(tmp_path / "in", f"{uid},P01,MS,,"), tmp_path / "out")


def test_several_masks_are_joined(tmp_path: Path) -> None:
    uid, _ = study(tmp_path / "in" / "a")
    sources = sorted((tmp_path / "in" / "a" / "flair").glob("*.dcm"))
    loaded = load_series(sources)
    assert loaded.volume is not None
    more = np.zeros(loaded.volume.array.shape, bool)
    more[8, 40:43, 20:22] = True
    findings = Findings(
        status="findings", segments=(Segment("Lesion", "lesion_of_brain", more),), models=(CARD,)
    )
    second = build_segmentation(findings, loaded, sources_of(loaded), replace(CONTEXT, job_id="ab" * 16))
    second.save_as(tmp_path / "in" / "a" / "seg2.dcm", enforce_file_format=True)
    import_dicom(index(tmp_path / "in", f"{uid},P01,MS,,"), tmp_path / "out")
    entry = read_index(tmp_path / "out")[0]
    assert int(np.asarray(nib.load(entry.lesions).dataobj).sum()) == 144 + 6
