"""Input as hospitals really send it: everything acknowledged is kept, and each series ends with a line that says why."""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import mr_series
from pydicom import Dataset, FileDataset, dcmread
from pydicom.data import get_charset_files
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRSpectroscopyStorage,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE, build_context

from dicom_node.jobs.states import JobState, SeriesState
from tests.integration.faults.conftest import Make, Start
from tests.integration.faults.inside import InsideNode
from tests.integration.faults.pacs import Pacs

pytestmark = pytest.mark.integration

Change = Callable[[Dataset], None]


def rewrite(path: Path, change: Change, out: Path | None = None) -> Path:
    """Change a file's data set, and its file meta information with it."""
    ds = dcmread(path)
    change(ds)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.save_as(out or path)
    return out or path


def put(**values: Any) -> Change:
    """Return a change that sets elements."""

    def change(ds: Dataset) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return change


def with_uid(path: Path, out: Path, **values: Any) -> Path:
    """Write a copy of an image as another one."""
    shutil.copy(path, out)
    return rewrite(out, put(SOPInstanceUID=generate_uid(entropy_srcs=[str(out)]), **values))


def verdict(node: InsideNode) -> tuple[str, str]:
    """Wait until the only series is judged; return its state and reason."""
    series = node.node.store.series_in(*SeriesState)
    node.until(
        lambda: [s for s in node.node.store.series_in(*SeriesState) if s.state != SeriesState.RECEIVING],
        f"a verdict on {len(series)} series",
    )
    (judged,) = node.node.store.series_in(*SeriesState)
    return judged.state, judged.reason


def assert_held(node: InsideNode, reason: str) -> None:
    """The series waits for a person, for this reason, and was not lost; released, it is analysed or answered."""
    assert verdict(node)[0] == SeriesState.HELD
    (series,) = node.node.store.series_in(SeriesState.HELD)
    assert reason in series.reason
    assert reason in node.why(series.series_uid)
    assert "dicom-node release" in node.why(series.series_uid)
    node.assert_nothing_lost()


# Twice, late, mixed


def test_same_images_again(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs)
    node.send(files)
    node.delivered()
    node.send(files)
    assert node.wait_for("duplicate")["images"] == len(files)
    assert len(node.jobs()) == 1
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_other_pixels_under_a_known_uid(start: Start, files: list[Path], tmp_path: Path) -> None:
    pacs = Pacs()
    node = start(pacs)
    node.send(files)
    node.delivered()

    def brighten(ds: Dataset) -> None:
        ds.PixelData = (ds.pixel_array + 1).astype(np.uint16).tobytes()

    node.send([rewrite(files[4], brighten, tmp_path / "other.dcm")])
    assert node.wait_for("conflict")["images"] == 1
    assert len(list(node.node.spool.quarantine.glob("*.dcm"))) == 1
    assert len(node.jobs()) == 1
    node.acknowledged = {uid: path for uid, path in node.acknowledged.items() if path.name != "other.dcm"}
    node.assert_nothing_lost()


def test_image_of_another_series_under_a_known_uid(start: Start, make_series: Make) -> None:
    pacs = Pacs()
    node = start(pacs)
    first, second = make_series(), make_series()
    taken = str(dcmread(first[3]).SOPInstanceUID)
    rewrite(second[3], put(SOPInstanceUID=taken))
    node.send(first)
    node.delivered()
    node.send(second)
    assert node.wait_for("conflict")["images"] == 1
    assert node.wait_for("held")["images"] == 11
    assert len(list(node.node.spool.quarantine.glob("*.dcm"))) == 1
    node.until(lambda: not list(node.node.spool.inbox.glob("*.dcm")), "the inbox is empty")


def test_late_image_makes_a_revision_that_names_its_predecessor(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs)
    node.send(files[:-1])
    node.delivered()
    first = node.job()
    reports = {uid for uid, ds in pacs.held.items() if ds.Modality == "SR"}
    node.send(files[-1:])
    node.delivered(2)
    (second,) = [job for job in node.jobs() if job.id != first.id]
    assert second.replaces == first.id
    assert f"replaces job {first.id[:8]}" in node.why(second.id)
    named = {
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for ds in pacs.held.values()
        for study in ds.get("PredecessorDocumentsSequence", [])
        for item in study.ReferencedSeriesSequence
    }
    assert named <= reports and named
    node.assert_nothing_lost()
    node.assert_once(pacs)


def associate(stack: ExitStack, node: InsideNode, calling: str) -> Any:
    """Open an association for MR images that is released at the end."""
    ae = AE(calling)
    ae.requested_contexts = [build_context("1.2.840.10008.5.1.4.1.1.4", ExplicitVRLittleEndian)]
    assoc = ae.associate("127.0.0.1", node.node.scp.port, ae_title="LESIONNODE")
    assert assoc.is_established
    stack.callback(assoc.release)
    return assoc


def test_two_series_interleaved_on_two_associations(start: Start, make_series: Make) -> None:
    pacs = Pacs()
    node = start(pacs)
    series = [make_series(), make_series()]
    with ExitStack() as stack:
        associations = [associate(stack, node, name) for name in ("ONE", "TWO")]
        for number, (one, other) in enumerate(zip(*series, strict=True)):
            for assoc, path in zip(associations, [(one, other), (other, one)][number % 2], strict=True):
                assert assoc.send_c_store(path).Status == 0
        node.acknowledged = {str(dcmread(p).SOPInstanceUID): p for files in series for p in files}
    node.delivered(2)
    assert [len(job.images) for job in node.jobs()] == [12, 12]
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_series_in_three_associations(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs, series={"quiet_s": 1.0})
    for part in (files[8:], files[:3], files[3:8]):
        node.send(part)
    node.delivered()
    assert len(node.job().images) == 12
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_missing_slice_is_held(start: Start, files: list[Path]) -> None:
    node = start()
    node.send(files[:5] + files[6:])
    assert_held(node, "slice missing between")
    (series,) = node.node.store.series_in(SeriesState.HELD)
    node.node.steering.steer("release", series.id)
    node.delivered()
    assert "released by a person" in node.why(series.id)


def test_doubled_position_is_held(start: Start, files: list[Path], tmp_path: Path) -> None:
    node = start()
    node.send([*files, with_uid(files[5], tmp_path / "twin.dcm", InstanceNumber=13)])
    assert_held(node, "up to 2 images at one position")


def test_mixed_orientation_is_held(start: Start, files: list[Path], tmp_path: Path) -> None:
    node = start()
    odd = with_uid(
        files[5], tmp_path / "odd.dcm", ImageOrientationPatient=[0, 1, 0, 0, 0, -1], InstanceNumber=13
    )
    node.send([*files, odd])
    assert_held(node, "images of different orientations")
    (series,) = node.node.store.series_in(SeriesState.HELD)
    node.node.steering.steer("release", series.id)
    node.delivered()
    assert node.job().outcome == "unsuitable"


def test_mixed_echoes_are_held(start: Start, files: list[Path], tmp_path: Path) -> None:
    node = start()
    second = [
        with_uid(
            path, tmp_path / f"second-{path.name}", EchoTime=180.0, EchoNumbers=2, InstanceNumber=100 + n
        )
        for n, path in enumerate(files)
    ]
    node.send([*files, *second])
    assert_held(node, "several echoes, phases or b-values")


# Encodings


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
    ],
    ids=lambda uid: uid.name.replace(" ", "-"),
)
def test_transfer_syntax_is_taken_and_analysed(start: Start, make_series: Make, syntax: Any) -> None:
    pacs = Pacs()
    node = start(pacs)
    files = make_series(shape=(12, 64, 64)) if syntax.is_encapsulated else make_series(transfer_syntax=syntax)
    if syntax.is_encapsulated:
        for path in files:
            ds = dcmread(path)
            ds.compress(syntax, generate_instance_uid=False)
            ds.save_as(path)
    assert dcmread(files[0]).file_meta.TransferSyntaxUID == syntax
    node.send(files)
    node.delivered()
    assert node.job().outcome == "findings"
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_enhanced_mr_is_whole_at_once(start: Start, make_series: Make) -> None:
    pacs = Pacs()
    node = start(pacs, series={"quiet_s": 3000.0})
    node.send(make_series(enhanced=True))
    node.delivered()
    assert node.job().outcome == "findings"
    node.assert_nothing_lost()
    node.assert_once(pacs)


# What no rule wants


def spectroscopy(path: Path) -> Path:
    def change(ds: Dataset) -> None:
        ds.SOPClassUID = MRSpectroscopyStorage
        for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
            del ds[keyword]
        ds.SpectroscopyData = np.zeros(64, np.float32).tobytes()

    return rewrite(path, change)


def localizer(files: Iterable[Path]) -> list[Path]:
    planes = ([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1])
    image_type = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    values = {
        "SeriesDescription": "localizer",
        "ImageType": image_type,
        "EchoTime": 5.0,
        "InversionTime": None,
    }
    return [
        rewrite(path, put(ImageOrientationPatient=plane, **values))
        for path, plane in zip(files, planes, strict=False)
    ]


def diffusion(files: Iterable[Path]) -> list[Path]:
    values = {
        "SeriesDescription": "ep2d_diff_b1000",
        "ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"],
        "ScanningSequence": "EP",
        "InversionTime": None,
        "DiffusionBValue": 1000.0,
    }
    return [rewrite(path, put(**values)) for path in files]


def colour(files: Iterable[Path]) -> list[Path]:
    def change(ds: Dataset) -> None:
        grey = (ds.pixel_array // 8).astype(np.uint8)
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        ds.PixelData = np.repeat(grey[..., None], 3, axis=-1).tobytes()

    return [rewrite(path, change) for path in files]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda files: [spectroscopy(files[0])], "MR Spectroscopy Storage"),
        (localizer, "its images lie in 3 orientations"),
        (diffusion, "no rule wants it"),
        (
            lambda files: [rewrite(path, put(SOPClassUID="1.3.12.2.1107.5.9.1")) for path in files],
            "1.3.12.2.1107.5.9.1",
        ),
    ],
    ids=["spectroscopy", "localizer", "diffusion", "private SOP class"],
)
def test_series_that_no_rule_wants_is_kept_and_its_reason_told(
    start: Start, files: list[Path], make: Callable[[list[Path]], list[Path]], reason: str
) -> None:
    node = start()
    node.send(make(files))
    state, said = verdict(node)
    assert (state, reason in said) == (SeriesState.IGNORED, True), said
    assert node.wait_for("ignored")["reason"] == said
    node.assert_nothing_lost()


def test_colour_images_are_answered_and_not_analysed(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs)
    node.send(colour(files))
    node.delivered()
    assert node.job().outcome == "unsuitable"
    assert "is in colour" in node.why(node.job().id)
    node.assert_once(pacs)
    assert not node.orders.noted("ran")
    node.assert_nothing_lost()


# What is no image at all


def test_payload_that_is_no_dicom_is_set_aside(start: Start, files: list[Path]) -> None:
    node = start()
    bad = []
    for path, payload in zip(
        files, (b"GET / HTTP/1.0\r\n\r\n", b"\0" * 999, b"\xff" * 77, b"\x08"), strict=False
    ):
        content = path.read_bytes()
        end = 144 + int.from_bytes(content[140:144], "little")
        path.write_bytes(content[:end] + payload)
        bad.append(path)
    ae = AE("SCANNER")
    with ExitStack() as stack:
        assoc = associate(stack, node, ae.ae_title)
        for path in bad:
            assert send_raw(assoc, path) == 0
    node.wait_for("quarantined", len(bad))
    assert len(list(node.node.spool.quarantine.glob("*.dcm"))) == len(bad)
    assert all(record["reason"] for record in node.events("quarantined"))


def send_raw(assoc: Any, path: Path) -> int:
    """Send a file's bytes behind its file meta information, whatever they are; return the status."""
    from io import BytesIO

    from pydicom.filereader import read_file_meta_info
    from pynetdicom.dimse_primitives import C_STORE

    meta = read_file_meta_info(path)
    content = path.read_bytes()
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = meta.MediaStorageSOPClassUID
    request.AffectedSOPInstanceUID = meta.MediaStorageSOPInstanceUID
    request.Priority = 2
    request.DataSet = BytesIO(content[144 + int.from_bytes(content[140:144], "little") :])
    context = assoc.accepted_contexts[0]
    assoc._reactor_checkpoint.clear()
    try:
        assoc.dimse.send_msg(request, context.context_id)
        _, answer = assoc.dimse.get_msg(block=True)
    finally:
        assoc._reactor_checkpoint.set()
    return int(answer.Status)


@pytest.mark.parametrize(
    "uid",
    [
        "1." + "2" * 298,
        "../../../../escaped",
        "/tmp/escaped",
        "..",
        "1.2/../../escaped",
        "C:\\escaped",
        "1.2\n3",
        "%2e",
    ],
    ids=["300 characters", "up", "absolute", "dots", "hidden", "windows", "line end", "percent"],
)
def test_uid_is_never_a_part_of_a_path(start: Start, files: list[Path], tmp_path: Path, uid: str) -> None:
    node = start()
    before = outside(tmp_path, node)
    for path in files:
        ds = dcmread(path)
        meta = copy.deepcopy(ds.file_meta)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds.SeriesInstanceUID = ds.StudyInstanceUID = uid
            ds.SOPInstanceUID = f"{uid}{ds.InstanceNumber}"
            FileDataset(path, ds, preamble=b"\0" * 128, file_meta=meta).save_as(path)
    with ExitStack() as stack:
        assoc = associate(stack, node, "SCANNER")
        assert [send_raw(assoc, path) for path in files] == [0] * len(files)
    node.until(
        lambda: (
            node.events("quarantined") or node.node.store.series_in(SeriesState.ROUTED, SeriesState.IGNORED)
        ),
        "a verdict",
    )
    node.until(lambda: not list(node.node.spool.inbox.glob("*.dcm")), "the inbox is empty")
    kept = [*node.node.spool.series.rglob("*.dcm"), *node.node.spool.quarantine.glob("*.dcm")]
    assert len(kept) == len(files)
    assert outside(tmp_path, node) == before
    assert not Path("/tmp/escaped").exists()


def outside(folder: Path, node: InsideNode) -> set[Path]:
    """Everything around the data folder, but what the pipeline of the tests notes of its own start."""
    own = (node.data, folder / "orders")
    return {path for path in folder.rglob("*") if not any(path.is_relative_to(part) for part in own)}


# Names and strangers


def test_every_character_set_of_names_comes_back(start: Start, tmp_path: Path) -> None:
    pacs = Pacs()
    node = start(pacs)
    names = {}
    for number, source in enumerate(sorted(get_charset_files("*.dcm"))):
        found = dcmread(source)
        if "PatientName" not in found:
            continue
        found.decode()
        files = mr_series(
            tmp_path / f"set-{number}", shape=(6, 8, 8), EchoTime=90.0, RepetitionTime=9000.0, seed=number
        )
        for path in files:
            rewrite(path, put(SpecificCharacterSet=found.SpecificCharacterSet, PatientName=found.PatientName))
        names[str(dcmread(files[0]).StudyInstanceUID)] = str(found.PatientName)
        node.send(files)
    assert len(names) > 12
    node.delivered(len(names))
    for ds in pacs.held.values():
        ds.decode()
        assert str(ds.PatientName) == names[str(ds.StudyInstanceUID)]
    assert not [name for name in names.values() if name in node.log()]
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_files_of_strangers_crash_nothing(start: Start) -> None:
    pacs = Pacs()
    node = start(pacs)
    files = []
    for name in sorted((Path(get_charset_files("chrFren.dcm")[0]).parents[1] / "test_files").rglob("*.dcm")):
        try:
            ds = dcmread(name, stop_before_pixels=True)
        except Exception:  # noqa: BLE001 - some are made to be unreadable
            continue
        if ds.get("SOPInstanceUID") and ds.file_meta.get("TransferSyntaxUID"):
            files.append(name)
    assert len(files) > 40
    results = node.offer(files)
    taken = [result for result in results if result.outcome.stored]
    assert len(taken) > 40
    node.until(lambda: not list(node.node.spool.inbox.glob("*.dcm")), "everything is filed")

    def kept_or_known() -> int:
        # The line that counts what was known comes once the association has ended and all of it is filed.
        known = sum(record["images"] for name in ("duplicate", "conflict") for record in node.events(name))
        return known + len(kept())

    def kept() -> list[Path]:
        return [*node.node.spool.series.rglob("*.dcm"), *node.node.spool.quarantine.glob("*.dcm")]

    node.until(lambda: kept_or_known() >= len(taken), "everything is kept or known")
    assert len(kept()) <= len(taken)
    node.until(lambda: not node.node.store.series_in(SeriesState.RECEIVING), "every series has its verdict")
    node.until(lambda: not node.jobs(JobState.QUEUED, JobState.RUNNING), "every job has ended")
