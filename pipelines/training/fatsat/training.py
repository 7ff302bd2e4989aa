"""Training of the ensemble: eyes, its members, their weights and card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.device import resolve_device
from pipelines.errors import DataSetError, WeightsError
from pipelines.fatsat.ensemble import Ensemble
from pipelines.fatsat.network import OpticNerveCNN
from pipelines.fatsat.settings import LARGEST_ENSEMBLE, WEIGHTS, CropKind
from pipelines.memory import keep_freed_memory
from pipelines.training.fatsat.crops import EyeSet, joined
from pipelines.training.fatsat.curves import draw_histories
from pipelines.training.fatsat.dataset import data_set_eyes
from pipelines.training.fatsat.export import export
from pipelines.training.fatsat.networks import Member, train_member
from pipelines.training.fatsat.phantoms import heads_in, phantom_eyes, training_plan
from pipelines.training.fatsat.recipe import EPOCHS, MEMBERS, SERIES
from pipelines.training.results_folder import (
    CONFIG,
    CURVES,
    HISTORY,
    METRICS,
    read_json,
    software,
    write_json,
)
from pipelines.weights import card_details

MEMBERS_FOLDER = "members"
PHANTOMS_FOLDER = "phantoms"
CROPS_FOLDER = "crops"
THRESHOLD = 0.5
"""As in the paper; the training is balanced."""
Report = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """Part of a training for the progress bar: its name, and how many steps it has."""

    name: str
    steps: int


Watch = Callable[[Stage, int, dict[str, float]], None]


def is_data_set(data: Path | None) -> bool:
    """Return whether a folder is a data set, rather than one of label maps.

    Raises
    ------
    DataSetError
        It is neither, or there is no such folder.
    """
    if data is None:
        return False
    if not data.is_dir():
        raise DataSetError(f"no folder {data}")
    if (data / "index.csv").is_file():
        return True
    if heads_in(data) is None:
        raise DataSetError(
            f"{data} holds neither index.csv (a data set) nor head_labels/ (label maps for phantoms); "
            "give another folder, or leave --data out for phantoms from geometry alone"
        )
    return False


def learning_eyes(
    data: Path | None,
    out: Path,
    *,
    series: int,
    seed: int,
    leave_out: Sequence[str] = (),
    report: Report,
    watch: Watch | None = None,
) -> tuple[EyeSet, str]:
    """Return the eyes that may be learnt from, and their origin: those of a data set, or phantoms' of scanner A.

    They are kept in ``out`` and not made again.
    """
    given = is_data_set(data)
    stage = Stage("eyes of the data set" if given else "phantoms", series)

    def told(done: int, count: int) -> None:
        if watch:
            watch(Stage(stage.name, count), done, {})

    if given and data is not None:
        return data_set_eyes(data, out / CROPS_FOLDER, report, leave_out=tuple(leave_out), watch=told)
    eyes = phantom_eyes(training_plan(data, series, seed), out / PHANTOMS_FOLDER, told)
    kept = eyes.take(~np.isin(eyes.patients, list(leave_out)))
    return joined([kept]), "synthetic"


def train_members(
    eyes: EyeSet,
    kind: CropKind,
    folder: Path,
    *,
    members: int,
    seed: int,
    epochs: int,
    device: str,
    other_looks: bool,
    start: Sequence[OpticNerveCNN] = (),
    report: Report,
    watch: Watch | None = None,
) -> list[Member]:
    """Train the members of an ensemble, each on all eyes with its own balanced sub-sample; finished ones are loaded.

    Each goes on from one of the networks to start from, if there are any, in turn.
    """
    trained = []
    for number in range(1, members + 1):
        path = folder / f"member{number:02d}.pt"
        if not path.exists():
            stage = Stage(f"{kind}, member {number} of {members}", epochs)

            def told(epoch: int, losses: dict[str, float], stage: Stage = stage) -> None:
                if watch:
                    watch(stage, epoch, losses)

            member = train_member(
                eyes,
                kind,
                seed=1000 * seed + number,
                epochs=epochs,
                other_looks=other_looks,
                start=start[(number - 1) % len(start)] if start else None,
                device=device,
                watch=told,
            )
            member.save(path)
            best = min(member.history, key=lambda epoch: epoch["validation loss"])
            report(
                f"{stage.name}: {len(member.history)} epochs of {member.eyes} eyes, validation loss "
                f"{best['validation loss']:.3f}, balanced accuracy {best['validation score']:.3f}"
            )
        trained.append(Member.load(path))
    return trained


def train(
    data: Path | None,
    out: Path,
    *,
    members: int = MEMBERS,
    crop: CropKind = "published",
    series: int = SERIES,
    epochs: int = EPOCHS,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    leave_out: Sequence[str] = (),
    init: Path | None = None,
    report: Report = print,
    watch: Watch | None = None,
) -> Path:
    """Train an ensemble and write its weights with a model card.

    The folder ``out`` then holds ``config.json`` (what was asked for), ``phantoms/`` or ``crops/`` (the eyes), ``members/`` (a
    file for each network), ``history.json``, ``curves.png``, ``metrics.json``, and the weights with their card. It may be
    killed at any time; ``resume`` goes on with the member that was cut off.

    Parameters
    ----------
    data : Path, optional
        A data set (see `pipelines.training.fatsat.dataset`), or a folder with ``head_labels/`` for phantoms of real head
        shapes. Without it phantoms come from geometry alone.
    out : Path
    members : int
        The paper has 200; at most 32 fit into weights that ship.
    crop : "published" or "along-nerve"
    series : int
        Phantoms that are made, where ``data`` is no data set.
    epochs : int
        At most, for each member.
    resume : bool
        Go on with ``out``; what is asked for must be as before, but for the number of members, which may grow.
    leave_out : sequence of str
        Patients whose eyes are not used.
    init : Path, optional
        Folder of weights for the same crop, from whose members the new ones go on.
    report : callable
        Takes lines.
    watch : callable, optional
        Told of each step.

    Returns
    -------
    Path
        The card of the weights.

    Raises
    ------
    DataSetError, WeightsError
        The data are not as documented; ``out`` has a training and ``resume`` is not set, or another one.
    """
    if not 1 <= members <= LARGEST_ENSEMBLE:
        raise WeightsError(f"an ensemble has 1 to {LARGEST_ENSEMBLE} members, not {members}")
    used = resolve_device(device)
    earlier = None if init is None else Ensemble("cpu", init, crop=crop)
    asked: dict[str, object] = {
        "network": "fatsat",
        "crop": crop,
        "series": None if is_data_set(data) else series,
        "epochs": epochs,
        "seed": seed,
        "data": None if data is None else str(data),
        "leave_out": sorted(leave_out),
        "init": None if earlier is None else earlier.card.digest,
    }
    before = _earlier(out, asked, resume)
    if used == "cpu":
        keep_freed_memory()
    config = {**before, **asked, "members": members, "device": used, "software": software()}
    write_json(out / CONFIG, config)
    eyes, origin = learning_eyes(
        data, out, series=series, seed=seed, leave_out=leave_out, report=report, watch=watch
    )
    if before.get("eyes", eyes.digest()) != eyes.digest():
        raise WeightsError(f"{data} has other eyes or labels than {out} was trained on; give another folder")
    write_json(out / CONFIG, {**config, "eyes": eyes.digest()})
    ill = int(eyes.labels.sum())
    report(f"{len(eyes)} eyes of {len(np.unique(eyes.patients))} patients, {ill} with a lesion; {origin}")
    trained = train_members(
        eyes,
        crop,
        out / MEMBERS_FOLDER,
        members=members,
        seed=seed,
        epochs=epochs,
        device=used,
        other_looks=origin == "synthetic",
        start=earlier.networks if earlier else (),
        report=report,
        watch=watch,
    )
    validation = _validation(trained, out)
    write_json(out / METRICS, {"origin": origin, "validation": validation})
    return export(
        [member.network for member in trained],
        out,
        crop=crop,
        origin=origin,
        data=data,
        eyes=eyes,
        threshold=THRESHOLD,
        earlier=None if init is None else card_details(WEIGHTS[crop], init),
        figures={
            f"{origin} eyes, validation (they chose each member's epoch)": {
                key: round(float(value), 4) for key, value in validation.items()
            }
        },
    )


def _validation(trained: Sequence[Member], out: Path) -> dict[str, float]:
    """Write how the members were trained, and return what their own validation eyes say of them."""
    histories = [member.history for member in trained]
    write_json(out / HISTORY, {"members": histories})
    draw_histories(histories, out / CURVES)
    best = [min(history, key=lambda epoch: epoch["validation loss"]) for history in histories]
    return {
        "members": len(trained),
        "epochs (mean)": float(np.mean([len(history) for history in histories])),
        "balanced accuracy of a member (mean)": float(np.mean([epoch["validation score"] for epoch in best])),
    }


def _earlier(out: Path, asked: dict[str, object], resume: bool) -> dict[str, object]:
    """Return what the training in a folder was asked for; refuse another one, or one that was not meant to go on."""
    if not (out / CONFIG).exists():
        return {}
    before = read_json(out / CONFIG)
    if not resume:
        raise WeightsError(f"{out} holds a training; resume it, or give another folder")
    changed = [key for key, value in asked.items() if before.get(key) != value]
    if changed:
        key = changed[0]
        raise WeightsError(
            f"{out} holds a training with {key} {before.get(key)!r}, not {asked[key]!r}; give another folder"
        )
    return before
