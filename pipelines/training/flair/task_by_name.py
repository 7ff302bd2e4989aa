"""Tasks by the names of their networks: lesion masks, classes, both, or five slices."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.training.flair.class_tasks import FiveSliceTask, VolumeClassTask
from pipelines.training.flair.mask_tasks import JointTask, SegmentationTask
from pipelines.training.flair.recipes import Kind, check_name
from pipelines.training.flair.task import Task

_TASKS: dict[Kind, Callable[..., Task]] = {
    "segmentation": SegmentationTask,
    "joint": JointTask,
    "classification": VolumeClassTask,
    "five-slices": FiveSliceTask,
}


def make_task(name: str, *, small: bool = False) -> Task:
    """Return the task of a network, with random weights.

    Raises
    ------
    WeightsError
        There is no network of that name.
    """
    return _TASKS[check_name(name)](name, small=small)
