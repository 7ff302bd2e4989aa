import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.errors import DataSetError, WeightsError
from pipelines.training.cards import seen_patients
from pipelines.training.data_sets.cases import Entry, LoadedCase, load_case, write_cube
from pipelines.training.flair.comparison import compare
from pipelines.training.flair.export import export, restore
from pipelines.training.flair.task_by_name import make_task
from pipelines.training.flair.trainable import FlairNetwork
from pipelines.training.papers.folds import Fold
from pipelines.training.phase import Phase
from pipelines.training.scoring.evaluation import evaluate
from pipelines.weights import card

EDGE = 40
"""Of an image that holds the brain and little beside it: the cube is sampled from it quickly."""
MIDDLE = EDGE // 2
GRID = np.stack(np.meshgrid(*[np.arange(EDGE)] * 3, indexing="ij"))
BRAIN = ((GRID - MIDDLE) ** 2).sum(0) < 15**2


def data_set(folder: Path) -> Path:
    """A brain of 18 mm with a bright lesion, for three patients, and one without."""
    rows = ["case,patient,flair,brain,lesions,label"]
    write_cube(BRAIN.astype(np.uint8), folder / "brain.nii.gz")
    for number, label in enumerate(("MS", "NMOSD", "MS", "none")):
        lesions = ((GRID - MIDDLE - number) ** 2).sum(0) < (9 if number < 3 else 0)
        image = 100.0 * BRAIN + 60 * lesions
        write_cube(image.astype(np.float32), folder / f"f{number}.nii.gz")
        write_cube(lesions.astype(np.uint8), folder / f"l{number}.nii.gz")
        rows.append(f"c{number},p{number},f{number}.nii.gz,brain.nii.gz,l{number}.nii.gz,{label}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module", autouse=True)
def cubes_sampled_once() -> Iterator[None]:
    """Bring each image to its cube once, whichever index names it."""
    cubes: dict[Path, LoadedCase] = {}

    def load(entry: Entry) -> LoadedCase:
        image = entry.flair.resolve()
        if image not in cubes:
            cubes[image] = load_case(entry)
        return cubes[image]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.training.flair.scorer.load_case", load)
        yield


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("cases"))


def save(name: str, folder: Path, *, seed: int = 0, weights: str | None = None) -> Path:
    torch.manual_seed(seed)
    task = make_task(name, small=True)
    return export(
        task.network, folder, name=name, weights=weights, provenance="synthetic", sources=[],
        figures={"synthetic cases": {}}, small=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["nnunet", "joint:no-guidance", "squeezenet", "five-slices"])
def test_saved_and_loaded_network_says_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    task = make_task(name, small=True)
    task.network.half().float().eval()  # what half precision storage keeps
    export(
        task.network, tmp_path, name=name, provenance="synthetic", sources=[], figures={}, small=True,
        temperature=None if name == "nnunet" else 1.5,
    )  # fmt: skip
    loaded, details = restore(name.replace(":", "-"), tmp_path, "cpu")
    cube = np.full((64, 64, 64), -5, np.float32)
    cube[8:56, 8:56, 8:56] = np.random.default_rng(0).normal(0, 1, (48, 48, 48))
    said, again = (t.predict(t.network, cube, device="cpu") for t in (task, loaded))
    assert (said.probability is None) == (name in {"squeezenet", "five-slices"})
    assert (said.logits is None) == (name == "nnunet")
    if said.probability is not None and again.probability is not None:
        np.testing.assert_allclose(said.probability, again.probability, atol=1e-5)
        assert (again.probability[:8] == 0).all()
    if said.logits is not None and again.logits is not None:
        np.testing.assert_allclose(said.logits, again.logits, atol=1e-5)
        assert details["temperature"] == 1.5
        assert "1.5" in (tmp_path / f"{details['name']}.md").read_text()


def test_networks_have_uids_of_their_own(tmp_path: Path) -> None:
    uids = {json.loads(save(name, tmp_path).read_text())["device_uid"] for name in ("nnunet", "unet3d")}
    assert len(uids) == 2
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


@pytest.mark.slow
def test_cases_are_scored_with_their_targets(cases: Path, tmp_path: Path) -> None:
    save("unet3d", tmp_path, weights="unet3d-1")
    save("unet3d", tmp_path, seed=1, weights="unet3d-2")
    (tmp_path / "config.json").write_text('{"seen_patients": ["p1"]}')
    assert seen_patients("unet3d-1", tmp_path) == {"p1"}
    lines: list[str] = []
    scores = evaluate(
        "unet3d",
        FlairNetwork("unet3d").scorer(),
        cases,
        weights=tmp_path,
        device="cpu",
        degrade=(3.0,),
        report=lines.append,
    )
    assert scores["weights"] == ["unet3d-1", "unet3d-2"]
    groups = scores["groups"]
    assert isinstance(groups, dict)
    assert list(groups) == ["real cases", "real cases, seen in training"]
    assert list(groups["real cases"]["cases"]) == ["c0", "c2", "c3"]
    # an untrained network starts at a bias of -4: it finds nothing
    first = groups["real cases"]["cases"]["c0"]
    assert first["dice"] == 0
    # 93 voxels of 1.728 mm3; on the cube, half a voxel away along each axis, a ball of that radius has 80 to 93
    assert 79.5 < first["truth_ml"] / 1.728e-3 < 93.5
    assert first["degraded"]["3 mm"]["dice"] == 0
    targets = scores["targets"]
    assert isinstance(targets, list)
    asked = {(t["case"], t["asked"]): t["margin"] for t in targets}
    assert asked["c0", "Dice at most 0.05 less at 3 mm slices"] == pytest.approx(0.05)
    assert asked["c0", "volume 0.7 to 1.4 of the truth"] == pytest.approx(-0.7)
    assert asked["c3", "at most 1.5 mL found without lesions"] == pytest.approx(1.5)
    assert not any(case == "c1" for case, _ in asked)
    assert lines[0].startswith("c0 (real cases), dice 0.000")


@pytest.mark.slow
def test_nothing_is_scored_against_what_a_network_has_drawn(cases: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in cases.glob("*.nii.gz"):
        (data / path.name).symlink_to(path)
    first, *rows = (cases / "index.csv").read_text().splitlines()
    lines = [f"{first},origin", f"{rows[0]},pseudo-labelled", *(f"{row},real" for row in rows[1:])]
    (data / "index.csv").write_text("\n".join(lines) + "\n")
    save("unet3d", tmp_path)
    groups = evaluate(
        "unet3d", FlairNetwork("unet3d").scorer(), data, weights=tmp_path, device="cpu", report=lambda _: None
    )["groups"]
    assert isinstance(groups, dict)
    assert "dice" not in groups["pseudo-labelled cases"]["cases"]["c0"]
    assert groups["pseudo-labelled cases"]["mean"] == {}
    assert list(groups["real cases"]["cases"]) == ["c1", "c2", "c3"]


def test_slices_thinner_than_the_cube_are_refused(cases: Path) -> None:
    with pytest.raises(DataSetError, match=r"slices of 1 mm are not thicker than the cube's 1\.2 mm"):
        evaluate("unet3d", FlairNetwork("unet3d").scorer(), cases, degrade=(1.0,))


def test_missing_weights_are_named(cases: Path, tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"no weights of vnet in .*; make them with 'dicom-node models train"
    ):
        evaluate("vnet", FlairNetwork("vnet").scorer(), cases, weights=tmp_path)


@pytest.mark.slow
def test_tables_of_two_networks_are_printed_and_not_computed_twice(cases: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    save("unet3d", weights / "unet3d")
    save("squeezenet", weights)
    out = tmp_path / "out"
    lines: list[str] = []

    def run() -> str:
        names = ["unet3d", "squeezenet"]
        return compare(names, cases, out, folds="2", weights=weights, device="cpu", progress=lines.append)

    tables = run()
    assert "## Real cases" in tables
    assert "| network |  | DSC | PPV | TPR | VD | F1 | F1 <10 | F1 10-100 | F1 >100 |" in tables
    assert "| unet3d | published | 70.64 | 74.11 | 65.25 | 36.38 | - | - | - | - |" in tables
    assert "| unet3d | ours | 0.00 |" in tables
    assert "| squeezenet | ours | " in tables
    assert "there are fewer" in tables
    assert (out / "tables.md").read_text() == tables
    assert len([line for line in lines if "(real cases)" in line]) == 8
    assert (
        json.loads((out / "metrics.json").read_text())["figures"]["real cases"]["masks"]["unet3d"]["dice"]
        == 0
    )
    lines.clear()
    assert run() == tables
    assert lines == []


@pytest.mark.slow
def test_case_that_many_draws_share_is_scored_once(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [Fold(name, ("c0", "c1"), ("p0", "p1")) for name in ("draw001", "draw002")]
    monkeypatch.setattr("pipelines.training.flair.comparison.folds_of", lambda *_: both)
    lines: list[str] = []
    weights = save("squeezenet", tmp_path / "weights").parent
    out = tmp_path / "out"
    compare(["squeezenet"], cases, out, folds="2", weights=weights, device="cpu", progress=lines.append)
    assert len([line for line in lines if "(real cases)" in line]) == 2
    first, second = (json.loads((out / "squeezenet" / f.name / "tested.json").read_text()) for f in both)
    assert first["results"] == second["results"]
    assert [result["case"] for result in first["results"]] == ["c0", "c1"]


def test_wrong_name_or_fold_stops_a_comparison_at_once(cases: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no network 'unet'"):
        compare(["nnunet", "unet"], cases, tmp_path)
    with pytest.raises(DataSetError, match="9 folds need 9 patients or more and the data set has 4"):
        compare(["nnunet"], cases, tmp_path, folds="9")
    with pytest.raises(WeightsError, match="name one network or more"):
        compare([], cases, tmp_path)


@pytest.mark.slow
def test_card_tells_the_patients_that_were_learnt_from(cases: Path, tmp_path: Path) -> None:
    task = make_task("squeezenet", small=True)
    export(
        task.network, tmp_path, name="squeezenet", provenance="real and synthetic", sources=[], figures={},
        real_classes=True, seen=["p2", "p0"], small=True,
    )  # fmt: skip
    details = json.loads((tmp_path / "squeezenet.json").read_text())
    assert details["limitations"][0].startswith("A part of what the classification has learnt is synthetic")
    groups = evaluate(
        "squeezenet",
        FlairNetwork("squeezenet").scorer(),
        cases,
        weights=tmp_path,
        device="cpu",
        report=lambda _: None,
    )["groups"]
    assert isinstance(groups, dict)
    assert list(groups["real cases, seen in training"]["cases"]) == ["c0", "c2"]
    assert list(groups["real cases"]["cases"]) == ["c1", "c3"]


@pytest.mark.parametrize(
    ("name", "provenance", "real_classes", "said"),
    [
        ("joint", "real and synthetic", False, "synthetic"),
        ("joint", "real and synthetic", True, None),
        ("joint", "synthetic", False, None),
        ("joint:only-segmentation", "real and synthetic", False, None),
        ("nnunet", "real and synthetic", False, None),
    ],
)
def test_card_says_that_classes_are_synthetic_where_only_the_masks_are_real(
    name: str, provenance: str, real_classes: bool, said: str | None, tmp_path: Path
) -> None:
    task = make_task(name, small=True)
    export(
        task.network, tmp_path, name=name, weights="w", provenance=provenance, sources=[], figures={},
        real_classes=real_classes, small=True,
    )  # fmt: skip
    assert card("w", tmp_path).classes_trained_on == said


@pytest.mark.slow
def test_comparison_trains_each_fold_without_its_patients(cases: Path, pool: Path, tmp_path: Path) -> None:
    phase = Phase("crops", 32, 1, 2, 5.0, 5e-3, joint=False, schedule="constant", epoch=2)
    lines: list[str] = []

    def run(**more: Any) -> str:
        return compare(
            ["unet3d"], cases, tmp_path / "out", folds="2", device="cpu", progress=lines.append,
            pool=pool, phases=(phase,), small=True, **more,
        )  # fmt: skip

    tables = run()
    assert "| unet3d | ours | " in tables
    for fold in ("fold1", "fold2"):
        folder = tmp_path / "out" / "unet3d" / fold
        left_out = set(json.loads((folder / "config.json").read_text())["leave_out"])
        tested = {result["patient"] for result in json.loads((folder / "tested.json").read_text())["results"]}
        assert left_out == tested
        assert (folder / "unet3d.safetensors").exists()
        assert (folder / "curves.png").exists()
    lines.clear()
    assert run() == tables
    assert lines == []
    with pytest.raises(
        WeightsError, match=r"fold1 holds a training with given_share None, not 0\.25; give another"
    ):
        run(given_share=0.25)
