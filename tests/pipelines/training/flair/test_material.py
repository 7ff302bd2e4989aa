from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import DataSetError
from pipelines.training.data_sets.sample import Sample, pack_sample, target_of, unpack
from pipelines.training.flair import material
from pipelines.training.flair.case_pool import PoolSource, ready, wait_for
from pipelines.training.flair.material import Material, Needs, prepare
from pipelines.training.flair.training_settings import TrainingSettings


class Case:
    """Stands in for a case of the index or of the generator: 4 cubed."""

    def __init__(self, mean: float = 0.0) -> None:
        self.image = np.full((4, 4, 4), mean, np.float32)

    def sample(self, label: str) -> Sample:
        return Sample(self.image, self.image > 0, target_of(label))


@pytest.fixture
def left_out(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Whom the generator must not know, at each time that it was asked for; nothing is generated in earnest."""
    asked: list[tuple[str, ...]] = []

    class Generator:
        def case(self, rng: np.random.Generator, label: str) -> str:
            return label

    def make(data: Path | None, leave_out: tuple[str, ...]) -> Generator:
        asked.append(leave_out)
        return Generator()

    @contextmanager
    def filling(folder: Path, source: PoolSource, **_: Any) -> Iterator[Callable[[], bool]]:
        asked.append(source.leave_out)
        yield lambda: True

    monkeypatch.setattr(material, "make_generator", make)
    monkeypatch.setattr(material, "filling", filling)
    monkeypatch.setattr(material, "wait_for", lambda *_: None)
    monkeypatch.setattr(material, "load_case", lambda entry: Case(float(entry.case[1:]) / 4))
    monkeypatch.setattr(material, "pack", lambda label, path: pack_sample(Case().sample(label), path))
    return asked


def data_set(
    folder: Path, labels: Sequence[str], origins: Sequence[str] = (), masks: Sequence[str] = ()
) -> Path:
    """One case "c0", ... of each patient "p0", ...; all have lesion masks."""
    (folder / "open_ms" / "lesions_mni").mkdir(parents=True)
    for name in masks:
        (folder / "open_ms" / "lesions_mni" / f"{name}.nii.gz").touch()
    (folder / "a.nii").touch()
    rows = [
        f"c{n},p{n},a.nii,a.nii,{label},{origins[n] if origins else ''}" for n, label in enumerate(labels)
    ]
    (folder / "index.csv").write_text("\n".join(["case,patient,flair,lesions,label,origin", *rows]) + "\n")
    return folder


MASKS = Needs(validation_cases=4, segments=True, classifies=False)
BOTH = Needs(validation_cases=4, segments=True, classifies=True)
CLASSES = Needs(validation_cases=4, segments=False, classifies=True)


def prepared(
    data: Path | None,
    out: Path,
    needs: Needs = MASKS,
    lines: list[str] | None = None,
    before: dict[str, Any] | None = None,
    **more: Any,
) -> Material:
    said = [] if lines is None else lines
    settings = TrainingSettings("nnunet", data, out, pool_size=4, workers=1, **more)
    with prepare(settings, needs, "cpu", said.append, before) as made:
        return made


def test_patients_of_the_validation_are_in_no_case_and_no_prior(
    tmp_path: Path, left_out: list[tuple[str, ...]]
) -> None:
    data = data_set(tmp_path / "data", ["none"] * 10, masks=[f"p{n}" for n in range(10)])
    made = prepared(data, tmp_path / "out", leave_out=("p3",))
    assert len(made.kept) == 2
    assert sorted(made.learnt + made.kept) == [f"c{n}" for n in range(10) if n != 3]
    assert set(left_out[-1]) == {"p3"} | {f"p{case[1:]}" for case in made.kept}
    assert set(made.left_out) == set(left_out[-1])
    stored = {float(unpack(path).image[0, 0, 0]) for path in (tmp_path / "out" / "given").iterdir()}
    assert stored == {float(case[1:]) / 4 for case in made.learnt}
    # The best epoch is chosen by them: they are no unseen cases either.
    assert made.seen_patients == [f"p{n}" for n in range(10) if n != 3]


def test_training_that_learns_from_all_keeps_nobody(tmp_path: Path, left_out: list[tuple[str, ...]]) -> None:
    data = data_set(tmp_path / "data", ["MS"] * 10, masks=[f"p{number}" for number in range(10)])
    found = prepared(data, tmp_path / "out", learn_from_all=True)
    assert (len(found.learnt), found.kept, found.validation) == (10, [], [])
    assert left_out == [()]


def test_cut_off_training_that_left_others_out_leaves_no_case_behind(
    tmp_path: Path, left_out: list[tuple[str, ...]]
) -> None:
    data, out = data_set(tmp_path / "data", ["none"] * 3), tmp_path / "out"
    first = prepared(data, out)
    (out / "pool" / "ring0").mkdir(parents=True)
    pack_sample(Case().sample("MS"), out / "pool" / "ring0" / "case00000.npz")
    again = prepared(data, out, leave_out=("p0",))
    assert (first.learnt, again.learnt) == (["c0", "c1", "c2"], ["c1", "c2"])
    assert [float(unpack(p).image[0, 0, 0]) for p in sorted((out / "given").iterdir())] == [0.25, 0.5]
    assert ready(out / "pool") == []


def test_training_goes_on_with_the_cases_that_it_began_with(
    tmp_path: Path, left_out: list[tuple[str, ...]]
) -> None:
    data, out = data_set(tmp_path / "data", ["none"] * 6), tmp_path / "out"
    made = prepared(data, out)
    before = made.as_dict()
    assert prepared(data, out, before=before) == made
    with (data / "index.csv").open("a") as file:
        file.write("c6,p6,a.nii,a.nii,none,\n")
    with pytest.raises(DataSetError, match=r"are not those that the training in .* began with"):
        prepared(data, out, before=before)


def test_patient_that_is_not_there_cannot_be_left_out(
    tmp_path: Path, left_out: list[tuple[str, ...]]
) -> None:
    data = data_set(tmp_path / "data", ["none"] * 2, masks=["a.b"])
    with pytest.raises(DataSetError, match="has no patient p07 to leave out"):
        prepared(data, tmp_path / "out", leave_out=("p1", "p07"))
    with pytest.raises(DataSetError, match="without a data set there is no patient p07 to leave out"):
        prepared(None, tmp_path / "out", leave_out=("p07",))
    assert prepared(data, tmp_path / "out", leave_out=("p1", "a.b")).seen_patients == ["p0"]


def test_validation_of_both_classes_takes_them_in_turn(
    tmp_path: Path, left_out: list[tuple[str, ...]]
) -> None:
    data = data_set(tmp_path / "data", ["MS"] * 15 + ["NMOSD"] * 15)
    made = prepared(data, tmp_path / "out", BOTH)
    assert [unpack(path).target for path in made.validation] == [0, 1] * 3
    assert made.validation_origin == "real"
    assert made.real_classes
    assert made.provenance == "real and synthetic"


def test_network_of_classes_is_not_validated_by_cases_without(
    tmp_path: Path, left_out: list[tuple[str, ...]]
) -> None:
    lines: list[str] = []
    data = data_set(tmp_path / "data", ["MS"] * 10 + ["none"] * 5)
    made = prepared(data, tmp_path / "out", CLASSES, lines)
    assert (made.learnt, made.kept, made.validation_origin) == ([], [], "synthetic")
    assert [unpack(path).target for path in made.validation] == [0, 1, 0, 1]
    assert made.provenance == "synthetic"
    assert lines[0] == "0 of 15 cases of the data set can be learnt from"


def test_joint_network_takes_no_class_of_one_kind_only(
    tmp_path: Path, left_out: list[tuple[str, ...]]
) -> None:
    lines: list[str] = []
    data = data_set(tmp_path / "data", ["MS"] * 10)
    made = prepared(data, tmp_path / "out", BOTH, lines)
    assert {unpack(path).target for path in made.validation} == {-1}
    assert {unpack(path).target for path in (tmp_path / "out" / "given").iterdir()} == {-1}
    assert not made.real_classes
    assert "the data set has one class only: its labels are not learnt from" in lines


def test_validation_of_real_cases_has_no_synthetic_ones(
    tmp_path: Path, left_out: list[tuple[str, ...]]
) -> None:
    data = data_set(tmp_path / "data", ["none"] * 20, ["real", "synthetic"] * 10)
    made = prepared(data, tmp_path / "out")
    assert made.validation_origin == "real"
    assert made.kept
    assert all(int(case[1:]) % 2 == 0 for case in made.kept)


def test_unknown_lesions_are_ignored(tmp_path: Path, left_out: list[tuple[str, ...]]) -> None:
    data = data_set(tmp_path / "data", ["MS", "NMOSD"])
    text = (data / "index.csv").read_text().replace("a.nii,a.nii,NMOSD", "a.nii,,NMOSD")
    (data / "index.csv").write_text(text)
    prepared(data, tmp_path / "out", BOTH)
    known, unknown = (unpack(path) for path in sorted((tmp_path / "out" / "given").iterdir()))
    assert known.ignore is None
    assert unknown.ignore is not None
    assert unknown.ignore.all()


def test_pool_whose_makers_have_ended_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"a process that fills .* has ended"):
        wait_for(tmp_path, 1, str, lambda: False)


def test_what_a_network_has_drawn_is_learnt_from_and_never_validated_on(
    tmp_path: Path, left_out: list[tuple[str, ...]]
) -> None:
    origins = ["pseudo-labelled"] * 8 + ["real"] * 5
    made = prepared(data_set(tmp_path / "data", ["none"] * 13, origins), tmp_path / "out")
    assert made.kept
    assert set(made.kept) <= {f"c{n}" for n in range(8, 13)}
    assert {f"c{n}" for n in range(8)} <= set(made.learnt)
    assert made.provenance == "real and synthetic"
