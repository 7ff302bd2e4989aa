import pytest

from pipelines.flair.differential import MIN_TOTAL_MM3, not_applicable
from pipelines.types import Lesion


def lesions(*volumes_mm3: float) -> tuple[Lesion, ...]:
    return tuple(
        Lesion(number, "Lesion", volume, (0.0, 0.0, 0.0), 0.8, (3, 5))
        for number, volume in enumerate(volumes_mm3, start=1)
    )


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (lesions(), "0 lesions found, at least 3 are needed"),
        (lesions(9000.0), "1 lesion found, at least 3 are needed"),
        (lesions(40.0, 50.0, 37.0), "0.13 mL of lesions found, at least 0.3 mL are needed"),
        (lesions(MIN_TOTAL_MM3, 1.0, 1.0), ""),
    ],
)
def test_what_is_too_little_to_tell_a_disease_from(found: tuple[Lesion, ...], why: str) -> None:
    assert not_applicable(found) == why
