"""The network of lesion patterns behind the networks of the mask, as it scores cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.flair.calibration import calibrated
from pipelines.flair.differential import Calibration
from pipelines.flair.intensity import normalise
from pipelines.flair.pattern.model import PatternModel
from pipelines.flair.segmenter import MaskModel
from pipelines.flair.settings import PATTERN_WEIGHTS as WEIGHTS
from pipelines.training.data_sets.cases import Entry, load_case
from pipelines.training.pattern.lesion_patterns import features_of_cube
from pipelines.training.scoring.case_results import CaseResult
from pipelines.weights import FOLDER, card_details


class PatternScorer:
    """Network with the mask's networks before it, ready to score cases.

    Parameters
    ----------
    folder : Path
        Of its weights.
    masks : Path
        Folder of the mask's weights.
    device : str
        "cpu", "cuda:0".
    """

    def __init__(
        self, folder: Path = FOLDER, *, masks: Path = FOLDER, device: str = "cpu", flips: bool = False
    ) -> None:
        self.weights = [WEIGHTS]
        self._model, self._flips = PatternModel(folder), flips
        self._temperature = Calibration.of(card_details(WEIGHTS, folder)).temperature
        self._mask = MaskModel(device, masks)

    def score(self, entry: Entry, degrade: Sequence[float] = ()) -> CaseResult:
        """Score a case on the cube; ``degrade`` must be empty.

        Raises
        ------
        DataSetError
            Its files cannot be read.
        """
        case = load_case(entry)
        values = normalise(case.image, case.brain)
        mask = self._mask(values, flips=self._flips).probability > 0.5
        nmosd = (
            calibrated(self._model(features_of_cube(values, mask)), self._temperature)[1]
            if mask.any()
            else None
        )
        return CaseResult(
            case=entry.case,
            patient=entry.patient,
            label=entry.label,
            origin=entry.origin,
            seen=False,
            scores=None,
            nmosd=None if nmosd is None else float(nmosd),
            found_ml=None,
        )
