"""Scores that are asked of the networks that ship, and by how much a case meets or misses them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

DICE_TARGETS = {"patient07": 0.40, "patient19": 0.75}
DEGRADED_DROP = {3.0: 0.05, 5.0: 0.10}
"""Dice may fall by so much at slices of so many mm."""
LEAST_F1 = 0.45
VOLUME_RATIO = (0.7, 1.4)
FALSE_ML = {"real": 1.5, "synthetic": 1.0}
"""Largest volume found in heads without lesions."""


@dataclass(frozen=True)
class Target:
    """Score that is asked of a case, and the score that was reached.

    Parameters
    ----------
    margin : float
        By how much it is met; negative: missed. In the unit of what is asked.
    origin : "real" or "synthetic"
        Of the case.
    """

    case: str
    asked: str
    reached: float
    margin: float
    origin: str

    @property
    def met(self) -> bool:
        """True where it is reached."""
        return self.margin >= 0

    def as_dict(self) -> dict[str, object]:
        """Return it for a file."""
        return {**asdict(self), "met": self.met, "text": self.text()}

    def text(self) -> str:
        """Return it as a line."""
        said = f"met by {self.margin:.3f}" if self.met else f"MISSED by {-self.margin:.3f}"
        return f"{self.case} ({self.origin}): {self.asked}: {self.reached:.3f}, {said}"


def targets_met(
    case: str,
    patient: str,
    origin: str,
    scores: Mapping[str, float],
    degraded: Mapping[float, Mapping[str, float]],
) -> list[Target]:
    """Return what is asked of the network that ships, as far as it applies to a case.

    Parameters
    ----------
    patient : str
        Two of the open MS data have a target of their own.
    origin : "real" or "synthetic"
    scores : mapping
        Of `MaskScores`.
    degraded : mapping of thickness in mm to scores
    """
    if scores["truth_ml"] == 0:
        bound, found = FALSE_ML.get(origin, FALSE_ML["real"]), scores["volume_ml"]
        return [Target(case, f"at most {bound} mL found without lesions", found, bound - found, origin)]
    dice, f1, volume = scores["dice"], scores["lesion_f1"], scores["volume_ratio"]
    targets = []
    if origin == "real" and patient in DICE_TARGETS:
        asked = DICE_TARGETS[patient]
        targets.append(Target(case, f"Dice at least {asked}", dice, dice - asked, origin))
    for thickness, drop in DEGRADED_DROP.items():
        if thickness in degraded:
            lost = dice - degraded[thickness]["dice"]
            targets.append(
                Target(
                    case, f"Dice at most {drop} less at {thickness:g} mm slices", lost, drop - lost, origin
                )
            )
    low, high = VOLUME_RATIO
    targets.append(
        Target(case, f"volume {low} to {high} of the truth", volume, min(volume - low, high - volume), origin)
    )
    if math.isfinite(f1):
        targets.append(Target(case, f"lesion-wise F1 at least {LEAST_F1}", f1, f1 - LEAST_F1, origin))
    return targets
