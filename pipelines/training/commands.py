"""What ``dicom-node models`` calls: make phantom cases, train, evaluate."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipelines.device import resolve_device
from pipelines.errors import DataSetError, WeightsError
from pipelines.flair.joint.model import JointModel
from pipelines.flair.joint.network import JointNetwork
from pipelines.training.cases import COLUMNS, load_case, read_index, write_cube
from pipelines.training.cube import SPACING_MM
from pipelines.training.export import export, sources_of
from pipelines.training.generator import make_generator
from pipelines.training.loop import Phase, Trainer
from pipelines.training.metrics import class_scores, score_mask
from pipelines.training.pool import filling, pack_sample, ready, wait_for

NETWORKS = ("joint",)
VOXEL_MM3 = SPACING_MM**3
Report = Callable[[str], None]


def _check_name(name: str) -> None:
    if name not in NETWORKS:
        raise WeightsError(f"no network {name!r}; there is {', '.join(NETWORKS)}")


def phantom_cases(
    out: Path, count: int, seed: int = 0, data: Path | None = None, progress: Report | None = None
) -> list[Path]:
    """Write synthetic FLAIR cases with their lesions and labels as a data set (see `pipelines.training.cases`).

    Parameters
    ----------
    out : Path
        Folder for ``index.csv`` and the NIfTI files; made if it is not there.
    count : int
        Cases: MS, NMOSD and (every eighth) lesion-free in turn.
    seed : int
        The same seed gives the same cases.
    data : Path, optional
        Folder with ``head_labels/`` (FreeSurfer-numbered label maps); without it the MNI152 template alone is used.
    progress : callable, optional
        Takes a line for each case.

    Returns
    -------
    list of Path
        The FLAIR files.

    Raises
    ------
    DataSetError
        The folder cannot be written, or ``data`` holds something else.
    """
    if data is not None and not data.is_dir():
        raise DataSetError(f"no folder {data}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataSetError(f"cannot make {out}: {error.strerror}") from error
    generator = make_generator(data)
    rows, written = [], []
    for number in range(count):
        label = "none" if number % 8 == 7 else ("MS", "NMOSD")[number % 2]
        case = generator.case(np.random.default_rng((seed, number)), label)  # type: ignore[arg-type]
        name = f"phantom{number:04d}"
        arrays = {"flair": 1000 * case.image, "brain": case.brain, "lesions": case.lesions}
        for part, array in arrays.items():
            write_cube(
                array.astype(np.float32 if part == "flair" else np.uint8), out / f"{name}_{part}.nii.gz"
            )
        rows.append([name, name, *(f"{name}_{part}.nii.gz" for part in arrays), label])
        written.append(out / f"{name}_flair.nii.gz")
        if progress:
            ml = case.lesions.sum() * VOXEL_MM3 / 1000
            progress(f"{name}: {label}, {ml:.1f} mL of lesions, head {case.anatomy}")
    with (out / "index.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return written


def recipe(device: str, minutes: float | None = None, steps: int | None = None) -> list[Phase]:
    """Return the phases of a training: crops for the segmentation, then whole volumes for everything.

    On a GPU about 6 hours unless told otherwise, on a CPU 75 minutes.
    """
    gpu = device.startswith("cuda")
    # Counted in steps alone, a training anneals its learning rate the same way however fast the machine is.
    total = minutes or (math.inf if steps is not None else 360.0 if gpu else 75.0)
    crops, volumes = (60_000, 12_000) if gpu else (2600, 400)
    if steps is not None:
        crops, volumes = steps, max(1, steps // 6)
    return [
        Phase("crops", 80, 8 if gpu else 2, crops, 0.55 * total, 2e-3, joint=False),
        Phase("volumes", 160, 2 if gpu else 1, volumes, 0.45 * total, 1e-3, joint=True),
    ]


def train(
    name: str,
    data: Path | None,
    out: Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    leave_out: tuple[str, ...] = (),
    workers: int | None = None,
    pool_size: int = 400,
    phases: list[Phase] | None = None,
    progress: Report = print,
) -> Path:
    """Train a network and write its weights with a model card.

    Parameters
    ----------
    name : str
        "joint".
    data : Path, optional
        Folder that may hold ``head_labels/``, ``open_ms/lesions_mni/`` (sources of the generator) and ``index.csv`` with
        cases to learn from beside the synthetic ones. Without it the MNI152 template alone is used.
    out : Path
        Results: ``checkpoint.pt``, ``history.json``, ``pool/`` and the weights with their cards.
    steps, minutes : optional
        Length; see `recipe`.
    resume : bool
        Go on with the checkpoint in ``out``.
    device : str
        "auto", "cpu", "cuda:0".
    leave_out : tuple of str
        Patients whose lesion masks and cases are not used.
    workers : int, optional
        Processes that make cases; one beside a CPU training, most cores beside a GPU.

    Returns
    -------
    Path
        The weight file.

    Raises
    ------
    DataSetError, WeightsError
        The data are not as documented; the network is unknown; ``out`` has a checkpoint and ``resume`` is not set.
    """
    _check_name(name)
    if data is not None and not data.is_dir():
        raise DataSetError(f"no folder {data}")
    used = resolve_device(device)
    torch.manual_seed(seed)
    trainer = Trainer(
        JointNetwork(), phases or recipe(used, minutes, steps), out, seed=seed, device=used, report=progress
    )
    if trainer.checkpoint.exists() and not resume:
        raise WeightsError(f"{trainer.checkpoint} exists; resume it, or give another folder")
    if resume and trainer.resume():
        progress(f"going on with phase {trainer.state.phase + 1}, step {trainer.state.step}")
    if workers is None:
        workers = 1 if used == "cpu" else max(1, (os.cpu_count() or 2) - 4)
    pool = out / "pool"
    given = 0 if data is None else _pack_given(data, pool / "ring-given", leave_out)
    with filling(pool, data, leave_out, size=pool_size, seed=seed, pause_s=0.0, workers=workers):
        wait_for(pool, given + min(8, pool_size), progress)
        trainer.run(pool)
    (out / "history.json").write_text(json.dumps(trainer.state.history, indent=1), encoding="utf-8")
    provenance = "real and synthetic" if given else "synthetic"
    return export(
        trainer.best,
        out,
        provenance=provenance,
        sources=sources_of(data, leave_out, given),
        figures={},
    )


def _pack_given(data: Path, ring: Path, leave_out: tuple[str, ...]) -> int:
    """Bring the cases of an index to the pool; return how many."""
    if not (data / "index.csv").is_file():
        return 0
    ring.mkdir(parents=True, exist_ok=True)
    entries = [e for e in read_index(data) if e.lesions is not None and e.patient not in leave_out]
    for number, entry in enumerate(entries):
        pack_sample(load_case(entry).sample(entry.label), ring / f"case{number:05d}.npz")
    return len(ready(ring.parent))


def evaluate(
    name: str, data: Path, *, weights: Path | None = None, device: str = "auto", progress: Report = print
) -> dict[str, object]:
    """Score a network on a data set: each case and the mean, masks and classes.

    Parameters
    ----------
    name : str
        "joint".
    data : Path
        Folder with ``index.csv``; see `pipelines.training.cases`.
    weights : Path, optional
        Folder with the weights; those that are installed by default.
    progress : callable
        Takes a line for each case.

    Returns
    -------
    dict
        ``cases`` (name to scores), ``mean`` (of each score, over the cases that define it) and ``classes``.

    Raises
    ------
    DataSetError, WeightsError
    """
    _check_name(name)
    model = JointModel(resolve_device(device), *(() if weights is None else (weights,)))
    scored: dict[str, dict[str, float]] = {}
    said: list[tuple[str, float]] = []
    for entry in read_index(data):
        case = load_case(entry)
        answer = model(case.sample(entry.label).image)
        line = f"{entry.case}: NMOSD {answer.nmosd:.2f}"
        if entry.label in ("MS", "NMOSD"):
            said.append((entry.label, answer.nmosd))
        if case.lesions is not None:
            scores = score_mask(answer.mask, case.lesions, VOXEL_MM3).as_dict()
            scored[entry.case] = scores
            line += "".join(f", {key} {value:.3f}" for key, value in scores.items())
        progress(line)
    keys = next(iter(scored.values())).keys() if scored else ()
    mean = {key: float(np.nanmean([s[key] for s in scored.values()])) for key in keys}
    return {"cases": scored, "mean": mean, "classes": class_scores(said)}
