import csv
from dataclasses import replace

import numpy as np
import pytest

from pipelines.errors import DataSetError
from pipelines.training.fatsat import dataset
from pipelines.training.fatsat.dataset import (
    COLUMNS,
    data_set_eyes,
    read_index,
    read_volume,
    write_volume,
)
from pipelines.types import Volume

AFFINE = np.array([[0.5, 0, 0, -60], [0, 0, 3.0, -18], [0, -0.5, 0, 30], [0, 0, 0, 1.0]])


def image(seed=0):
    return Volume(np.random.default_rng(seed).random((20, 120, 240), np.float32), AFFINE)


def write(folder, rows):
    folder.mkdir(exist_ok=True)
    for row in rows:
        if row.get("image") == "a.nii.gz" and not (folder / "a.nii.gz").exists():
            write_volume(image(), folder / "a.nii.gz")
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in COLUMNS if any(name in row for row in rows)])
        writer.writeheader()
        writer.writerows(rows)
    return folder


ROW = {"case": "a", "patient": "p1", "image": "a.nii.gz", "scanner": "Prisma", "left": "1", "right": "0"}


def test_index_is_read(tmp_path):
    rows = [
        {**ROW, "left_x": "30", "left_y": "-4.5", "left_z": "2"},
        {**ROW, "case": "b", "patient": "", "scanner": "", "left": "", "origin": "synthetic"},
    ]
    first, second = read_index(write(tmp_path / "set", rows))
    assert first.labels == {"left": 1, "right": 0}
    assert first.points == {"left": (30.0, -4.5, 2.0)}
    assert (first.scanner, first.origin) == ("Prisma", "real")
    assert (second.patient, second.scanner, second.origin) == ("b", "unknown", "synthetic")
    assert second.labels == {"right": 0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"left": "yes"}, r"line 2: left 'yes' is not 0, 1 or empty"),
        ({"image": "b.nii.gz"}, r"line 2: image b\.nii\.gz is not there"),
        ({"case": ""}, r"line 2: case and image must be given"),
        ({"right_x": "3"}, r"line 2: right_x, right_y, right_z must be three numbers"),
        ({"right_x": "3", "right_y": "a", "right_z": "2"}, "must be three numbers"),
        ({"origin": "phantom"}, "origin 'phantom'"),
        ({"left": "", "right": ""}, "labels no eye"),
    ],
)
def test_what_is_wrong_in_an_index_is_named(tmp_path, change, said):
    with pytest.raises(DataSetError, match=said):
        read_index(write(tmp_path / "set", [{**ROW, **change}]))


def test_missing_index_column_and_doubled_case_are_named(tmp_path):
    with pytest.raises(DataSetError, match=r"no .*index\.csv; a data set is a folder with"):
        read_index(tmp_path)
    with pytest.raises(DataSetError, match="has no column right"):
        read_index(write(tmp_path / "set", [{"case": "a", "image": "a.nii.gz", "left": "1"}]))
    with pytest.raises(DataSetError, match="case a stands twice"):
        read_index(write(tmp_path / "set", [ROW, ROW]))


def test_volume_keeps_its_place_in_the_patient(tmp_path):
    write_volume(image(), tmp_path / "a.nii.gz")
    back = read_volume(tmp_path / "a.nii.gz")
    assert np.allclose(back.affine, AFFINE, atol=1e-5)
    assert np.array_equal(back.array, image().array)
    (tmp_path / "b.nii.gz").write_bytes(b"nothing")
    with pytest.raises(DataSetError, match=r"b\.nii\.gz is not a readable NIfTI file"):
        read_volume(tmp_path / "b.nii.gz")


@pytest.fixture
def finder(monkeypatch):
    """Finds the right eye only, and takes a person's points; counts how often it is asked."""
    asked = []

    class Found:
        midpoint_lps = (0.0, 0.0, 0.0)

        def __init__(self, points):
            self.missing = {"left": "too dark"}
            self.points = {"right": (-28.0, 0.0, 0.0), **(points or {})}

        def of(self, side):
            if side not in self.points:
                return None
            at = self.points[side]
            course = np.add(at, [(0, y, 0) for y in np.arange(0, 24, 0.5)])
            return type("Eye", (), {"junction_lps": at, "course_lps": course})

    def find(volume, points=None):
        asked.append(points)
        return Found(points)

    monkeypatch.setattr(dataset, "find_eyes", find)
    return asked


def test_eye_that_is_not_found_is_left_out_and_told(tmp_path, finder):
    lines = []
    eyes, origin = data_set_eyes(write(tmp_path / "set", [ROW]), tmp_path / "cache", lines.append)
    assert eyes.sides.tolist() == ["right"]
    assert origin == "real"
    assert lines == ["a: no left eye (too dark); give left_x, left_y, left_z to have it used"]


def test_persons_point_is_used(tmp_path, finder):
    folder = write(tmp_path / "set", [{**ROW, "left_x": "28", "left_y": "0", "left_z": "0"}])
    eyes, _ = data_set_eyes(folder, tmp_path / "cache", print)
    assert finder == [{"left": (28.0, 0.0, 0.0)}]
    assert sorted(eyes.sides.tolist()) == ["left", "right"]
    native = image().array[4:17, 44:77, 151:193][..., ::-1]
    left = eyes.crops["published"][eyes.sides == "left"][0]
    assert np.allclose(left, (native - native.mean()) / native.std(), atol=2e-3)


def test_crops_are_kept_until_the_image_or_the_line_changes(tmp_path, finder):
    folder = write(tmp_path / "set", [ROW])

    def ask():
        return data_set_eyes(folder, tmp_path / "cache", lambda line: None)[0]

    first = ask()
    assert len(ask()) == len(first) == 1
    assert len(finder) == 1
    write(folder, [{**ROW, "right": "1"}])
    assert ask().labels.tolist() == [1]
    write_volume(replace(image(3), array=image(3).array[:, :, :200]), folder / "a.nii.gz")
    assert not np.array_equal(ask().crops["published"], first.crops["published"])


def test_patient_can_be_left_out(tmp_path, finder):
    folder = write(tmp_path / "set", [ROW, {**ROW, "case": "b", "patient": "p2"}])
    eyes, _ = data_set_eyes(folder, tmp_path / "cache", lambda line: None, leave_out=("p2",))
    assert set(eyes.patients) == {"p1"}
    with pytest.raises(DataSetError, match="no eye"):
        data_set_eyes(folder, tmp_path / "cache", lambda line: None, leave_out=("p1", "p2"))
