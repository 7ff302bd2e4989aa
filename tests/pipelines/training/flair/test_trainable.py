from pathlib import Path

import pytest

from pipelines.errors import WeightsError
from pipelines.training.flair.trainable import FlairNetwork, FlairPipeline
from pipelines.training.options import CalibrateOptions, CompareOptions, TrainOptions


def watch(*_: object) -> None:
    """Take the steps and show nothing."""


def test_what_tells_no_classes_is_not_calibrated(tmp_path: Path) -> None:
    asked = CalibrateOptions("nnunet", tmp_path)
    with pytest.raises(WeightsError, match="nnunet is no network that tells classes; joint, five-slices and"):
        FlairNetwork("nnunet").calibrate(asked, str)


def test_whole_pipeline_is_neither_trained_nor_compared(tmp_path: Path) -> None:
    pipeline = FlairPipeline()
    with pytest.raises(WeightsError, match="flair is the whole pipeline; train one of its networks: joint, "):
        pipeline.train(TrainOptions("flair", tmp_path), str, watch)
    with pytest.raises(WeightsError, match="flair is the whole pipeline; compare networks: joint, "):
        pipeline.compare(CompareOptions(["flair"], tmp_path), str, watch)
