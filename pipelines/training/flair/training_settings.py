"""Settings of a training of a network on FLAIR."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.training.flair.recipes import POOL_CASES
from pipelines.training.phase import Phase


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one training, as they are asked for.

    Parameters
    ----------
    name : str
        One of `recipes.NAMES`.
    data : Path, optional
        Folder that may hold ``head_labels/``, ``open_ms/lesions_mni/`` (sources of the generator) and ``index.csv`` with
        cases to learn from beside the synthetic ones. Without it the MNI152 template alone is used.
    out : Path
        The results folder.
    steps, minutes : optional
        Length; see `recipes.recipe`.
    resume : bool
        Go on with the checkpoint in ``out``: phases, seed, pool, share and patients to leave out are those of its
        ``config.json``, and so is ``data`` if it is not given.
    device : str
        "auto", "cpu", "cuda:0".
    leave_out : tuple of str
        Patients whose lesion masks and cases are not used.
    workers : int, optional
        Processes that make cases; one beside a CPU training, most cores beside a GPU.
    pool_size : int
        Cases in the pool.
    given_share : float
        Share of the pool that is made from the cases of the index; the rest is generated.
    fixed_pool : bool
        Fill the pool once, before the first step.
    learn_from_all : bool
        Keep no patient for a validation: nothing chooses an epoch, and no temperature is fitted. Folds tell beforehand what
        such a training is worth.
    pool : Path, optional
        Folder with rings of packed synthetic cases, used as it is; nothing is generated.
    init : Path, optional
        Folder with weights of the same network to start from; their sources and patients stand on the new card, too.
    weights : str, optional
        Name of the weights, "nnunet"; that of the network by default.
    phases : tuple of Phase
        In place of the recipe, where there are any.
    early_stop : int, optional
        Epochs without a better validation score after which a phase ends, 0 for never; the recipe's by default.
    small : bool
        The tiny variant, for tests.
    """

    name: str
    data: Path | None
    out: Path
    steps: int | None = None
    minutes: float | None = None
    resume: bool = False
    device: str = "auto"
    seed: int = 0
    leave_out: tuple[str, ...] = ()
    workers: int | None = None
    pool_size: int = POOL_CASES
    given_share: float = 0.5
    fixed_pool: bool = False
    learn_from_all: bool = False
    pool: Path | None = None
    init: Path | None = None
    weights: str | None = None
    phases: tuple[Phase, ...] = ()
    early_stop: int | None = None
    small: bool = False
