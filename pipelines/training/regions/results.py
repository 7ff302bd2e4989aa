"""Training of the network of structures into a results folder, and its weights with their card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.errors import WeightsError
from pipelines.regions.network import REGIONS, RegionsNetwork
from pipelines.training.cards import LABEL_MAPS, VERSION, device_uid, readme, write_cards
from pipelines.training.phase import Phase
from pipelines.training.regions.cases import filling, head_files
from pipelines.training.regions.evaluation import RealScore, SyntheticScores, targets_of
from pipelines.training.regions.training import CHECKPOINT, RATE, RegionsTrainer, wait_for
from pipelines.training.results_folder import (
    CONFIG,
    CURVES,
    HISTORY,
    draw_curves,
    read_json,
    software,
    write_json,
)
from pipelines.weights import FOLDER, card_details, save_weights

MINUTES, POOL_SIZE, FIRST_CASES = 180.0, 400, 16
PURPOSE = "Structures of the brain on FLAIR, for the regions of lesions; research use only"
REFERENCE = "a 3D U-Net on coarse voxels that answers in fine ones"
INPUT = (
    "FLAIR, brain-extracted, bias-corrected, the brain's box of a cube of 1.2 mm voxels towards Superior, Posterior, Left, "
    "normalised by `pipelines.flair.intensity.normalise`"
)
LIMITS = (
    "Every training image is synthetic. No real FLAIR image was seen.",
    "Where its structures are not plausible, the report says that regions are not available.",
    "Structures displaced by a tumour, a cavity or surgery are not known to it.",
)
Watch = Callable[[Phase, int, dict[str, float]], None]


def train_regions(
    data: Path | None,
    out: Path,
    *,
    minutes: float = MINUTES,
    steps: int | None = None,
    pool_size: int = POOL_SIZE,
    resume: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] = print,
    watch: Watch | None = None,
) -> Path:
    """Train the network on synthetic brains of ``data/head_labels``, and write its weights with a model card.

    It may be killed at any time; ``resume`` goes on with the checkpoint and the cases in ``out``.

    Parameters
    ----------
    minutes : float
        Of all runs together.
    steps : int, optional
        At most so many.
    pool_size : int
        Cases at hand at any time.

    Returns
    -------
    Path
        The card of the weights.

    Raises
    ------
    DataSetError, WeightsError
        There are too few label maps; ``out`` has a checkpoint and ``resume`` is not set, or one of another training.
    """
    learnt, kept = head_files(data)
    if (out / CHECKPOINT).exists() and not resume:
        raise WeightsError(f"{out / CHECKPOINT} exists; resume it, or give another folder")
    config = {
        "name": REGIONS,
        "seed": seed,
        "heads": [path.name for path in learnt],
        "heads_kept_apart": [path.name for path in kept],
    }
    if (out / CHECKPOINT).exists() and any(
        read_json(out / CONFIG).get(key) != value for key, value in config.items()
    ):
        raise WeightsError(f"the checkpoint in {out} is of another seed or other heads; give another folder")
    write_json(out / CONFIG, {**config, "minutes": minutes, "software": software()})
    phase = Phase(REGIONS, 0, 1, steps or round(minutes * 60), minutes, RATE, joint=False)
    trainer = RegionsTrainer(out, minutes, seed=seed, report=progress)
    trainer.resume()
    pool = out / "pool"
    with filling(pool, learnt, size=pool_size, seed=seed) as alive:
        wait_for(pool, min(FIRST_CASES, pool_size), progress, alive)
        trainer.run(
            pool, steps, None if watch is None else lambda step, loss: watch(phase, step, {"loss": loss})
        )
    history = [{"phase": 0.0, **entry} for entry in trainer.history]
    write_json(out / HISTORY, history)
    draw_curves(
        [{k: v for k, v in entry.items() if k != "used_s"} for entry in history], [phase], out / CURVES
    )
    return export_regions(trainer.average, out, heads=len(learnt), steps=trainer.step)


def export_regions(network: RegionsNetwork, folder: Path, *, heads: int, steps: int) -> Path:
    """Write weights and both cards; the figures are added by `add_figures`."""
    details = {
        "version": VERSION,
        "device_uid": device_uid(REGIONS),
        "network": REGIONS,
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": steps,
        "trained_on": "synthetic",
        "purpose": PURPOSE,
        "licence": "Apache-2.0",
        "reference": REFERENCE,
        "sources": [{**LABEL_MAPS, "what": f"{heads} {LABEL_MAPS['what']}"}],
        "figures": {},
        "limitations": list(LIMITS),
    }
    save_weights(REGIONS, network.state_dict(), details, readme({**details, "name": REGIONS}, INPUT), folder)
    return folder / f"{REGIONS}.json"


def add_figures(folder: Path, scores: SyntheticScores, real: Sequence[RealScore]) -> None:
    """Put figures that were measured on the cards of the weights in a folder; not on those that are installed."""
    if folder == FOLDER:
        return
    figures: dict[str, dict[str, str]] = {}
    for target in targets_of(scores, real):
        figures.setdefault(f"{target.origin}, {target.case}", {})[target.asked] = f"{target.reached:.3f}"
    if real:
        figures["real, Dice of all ventricles by scan"] = {of.case: f"{of.ventricles:.3f}" for of in real}
    write_cards(REGIONS, {**card_details(REGIONS, folder), "figures": figures}, INPUT, folder)
