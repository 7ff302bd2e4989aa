"""Identities of lesions: they stay with a lesion over the years, through merging and splitting, and in a second run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dicom_node.jobs.message import PriorImages
from pipelines.comparison import Examined, LesionMatch
from pipelines.types import Lesion, Volume
from worker.tracking import Tracking, known_after, track

EMPTY = np.zeros((1, 1, 1))
VOLUME = Volume(EMPTY.astype(np.float32), np.eye(4))


def examined(*lesions: tuple[int, float]) -> Examined:
    """An examination with lesions of these numbers and volumes, 20 mm from one another."""
    found = tuple(
        Lesion(number, "Lesion", volume, (20.0 * number, 0.0, 0.0), 0.9, (0, 0)) for number, volume in lesions
    )
    return Examined(VOLUME, EMPTY.astype(bool), EMPTY.astype(np.float32), EMPTY.astype(np.int32), found)


def tracked(
    current: Examined,
    prior: Examined,
    matches: Sequence[tuple[int, int, float]],
    known: PriorImages | None = None,
    analysis: str = "a",
) -> Tracking:
    return track(
        [LesionMatch(*match) for match in matches],
        ("1.2", current, analysis),
        ("1.1", prior, analysis),
        known or PriorImages((), ""),
    )


def names(tracking: Tracking) -> dict[int, tuple[str, str]]:
    return {number: (one.identifier, one.comment) for number, one in tracking.current.items()}


def test_matched_lesion_keeps_its_identity_and_a_new_one_gets_the_next_number():
    found = tracked(examined((1, 30.0), (2, 80.0)), examined((1, 70.0), (2, 20.0)), [(2, 1, 60.0)])
    assert names(found) == {1: ("L03", ""), 2: ("L01", "")}
    assert found.current[2].uid == found.prior[1].uid
    assert found.for_objects()[-2] == found.prior[2]
    uids = [one.uid for one in (*found.prior.values(), found.current[1])]
    assert len(set(uids)) == 3 and all(uid.startswith("2.25.") for uid in uids)


def test_merged_lesions_are_the_largest_and_the_others_are_named():
    found = tracked(examined((1, 200.0)), examined((1, 20.0), (2, 90.0)), [(1, 1, 20.0), (1, 2, 80.0)])
    assert names(found) == {1: ("L02", "merged with L01")}


def test_part_that_shares_most_keeps_the_identity_of_a_lesion_that_split():
    found = tracked(examined((1, 20.0), (2, 90.0)), examined((1, 120.0)), [(1, 1, 15.0), (2, 1, 80.0)])
    assert names(found) == {1: ("L02", "split from L01"), 2: ("L01", "")}


def test_identities_of_the_last_comparison_are_taken_over_by_number_and_by_place_in_another_analysis():
    first = tracked(examined((1, 30.0), (2, 80.0)), examined((1, 70.0)), [(2, 1, 60.0)])
    middle = examined((1, 30.0), (2, 80.0))
    known = PriorImages((), "", lesions=tuple(known_after(middle.lesions, first.current, "a")), last_number=2)
    again = tracked(examined((5, 30.0)), middle, [(5, 1, 30.0)], known)
    assert again.current[5].uid == first.current[1].uid
    renumbered = examined((2, 80.0), (1, 31.0))  # in the same places, by other weights
    anew = tracked(examined((5, 30.0)), renumbered, [(5, 1, 30.0)], known, analysis="b")
    assert {number: one.uid for number, one in anew.prior.items()} == {
        number: one.uid for number, one in first.current.items()
    }
    assert {one.comment for one in anew.prior.values()} == {"measured anew"}


def test_second_run_gives_the_same_identities():
    current, prior, matches = examined((1, 30.0), (2, 80.0)), examined((1, 70.0)), [(2, 1, 60.0)]
    first = tracked(current, prior, matches)
    known = PriorImages(
        (),
        "",
        lesions=tuple(known_after(prior.lesions, first.prior, "a")),
        current_lesions=tuple(known_after(current.lesions, first.current, "a")),
        last_number=2,
    )
    assert tracked(current, prior, matches, known) == first


def test_number_that_another_analysis_gave_does_not_lead_to_its_uid():
    prior = examined((1, 70.0))
    first = tracked(examined(), prior, [])
    known = PriorImages((), "", lesions=tuple(known_after(prior.lesions, first.prior, "a")), last_number=1)
    elsewhere = Examined(
        VOLUME, prior.brain, prior.probability, prior.labels,
        (Lesion(1, "Lesion", 70.0, (90.0, 0.0, 0.0), 0.9, (0, 0)),),
    )  # fmt: skip
    anew = tracked(examined(), elsewhere, [], known, analysis="b")
    assert anew.prior[1].uid != first.prior[1].uid and anew.prior[1].identifier == "L02"
