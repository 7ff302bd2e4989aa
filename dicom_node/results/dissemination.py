"""Dissemination in space in fixed sentences: lesions by region, optic nerves, and what was not examined.

The 2024 McDonald criteria count five sites: periventricular, juxtacortical or cortical, infratentorial, spinal cord, and
optic nerve; lesions in two of them are dissemination in space (Barkhof et al., Lancet Neurol 2025;24:866-879). FLAIR shows
the first three, which alone decide here; what a classifier says of the nerves stands in a sentence of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dicom_node.results.provenance import segmenting_model
from pipelines.types import Anatomy, Findings, ModelCard, Region, RegionLoad, SiteFinding

REGION_NAMES: Final[Mapping[Region, str]] = {
    "periventricular": "periventricular",
    "juxtacortical": "juxtacortical or cortical",
    "infratentorial": "infratentorial",
    "deep_white_matter": "deep white matter",
    "deep_grey_matter": "deep grey",
}
"""Regions as readers call them, in the order of reports."""
BRAIN_SITES: Final[tuple[Region, ...]] = ("periventricular", "juxtacortical", "infratentorial")
"""Sites of the criteria that lie in the brain."""
SITES_NEEDED: Final = 2
SPECIAL_AGE: Final = 50
"""From this age on the criteria ask for special care."""

NERVES_NOT_EXAMINED: Final = "The optic nerves were not examined."
CORD: Final = (
    "The spinal cord was not examined. The criteria apply to typical symptoms without a better explanation; "
    "whether they are met is a clinical decision."
)
AGE: Final = "From 50 years on, white matter lesions without MS are common."
NEVER_SEEN: Final = "by a classifier that has never seen a patient"


@dataclass(frozen=True)
class SiteCount:
    """Number of sites with lesions: those of the brain that an image shows.

    Parameters
    ----------
    sites : int
        Sites that at least one lesion lies in that is not borderline.
    borderline : int
        Further sites that borderline lesions alone would add.
    shown : int
        Sites that the field of view covers.
    """

    sites: int
    borderline: int
    shown: int

    @property
    def is_disseminated(self) -> bool:
        """True when the sites of the brain are enough."""
        return self.sites >= SITES_NEEDED


def count_sites(anatomy: Anatomy) -> SiteCount:
    """Return how many sites of the brain have lesions; ``anatomy`` has its regions."""
    shown = [load for load in anatomy.loads if _is_shown_site(load, anatomy)]
    sure = sum(load.lesions > load.borderline for load in shown)
    return SiteCount(sure, sum(load.lesions > 0 for load in shown) - sure, len(shown))


def dissemination_sentences(
    flair: Findings | None, fatsat: Findings | None, age_years: float | None
) -> list[str]:
    """Return all fixed sentences on a study.

    Parameters
    ----------
    flair, fatsat : Findings or None
        Of the FLAIR series, and of the FAT-SAT series of the same study; None where there is none.
    age_years : float or None
        The patient's age; None where it is not known.
    """
    sentences = [
        counts_sentence(flair),
        sites_sentence(flair),
        nerves_sentence(flair, fatsat),
        cord_sentence(flair),
        age_sentence(flair, age_years),
    ]
    return [text for text in sentences if text]


def has_regions(flair: Findings | None) -> bool:
    """Tell whether it is known in which regions the lesions of a FLAIR series lie."""
    return _anatomy(flair) is not None


def counts_sentence(flair: Findings | None) -> str:
    """Return the number of lesions in each region, or that it is not known; nothing without a FLAIR of demyelination."""
    if flair is None or flair.status not in ("findings", "none") or flair.not_typical:
        return ""
    anatomy = _anatomy(flair)
    if anatomy is None:
        reason = flair.anatomy.not_available.rstrip(".") if flair.anatomy is not None else ""
        return f"Regions are not available{reason and f': {reason}'}."
    loads = {load.region: load for load in anatomy.loads}
    parts = [
        f"{name}: not covered" if region in anatomy.not_covered else f"{name} {_count(loads.get(region))}"
        for region, name in REGION_NAMES.items()
    ]
    return f"Lesions of 3 mm or more: {', '.join(parts)}."


def sites_sentence(flair: Findings | None) -> str:
    """Return in how many regions of the brain lesions lie; nothing where the regions are not known."""
    anatomy = _anatomy(flair)
    if anatomy is None:
        return ""
    found = count_sites(anatomy)
    if found.shown == 0:
        return "This study shows none of the brain regions that count."
    shown = "only brain region" if found.shown == 1 else f"{found.shown} brain regions"
    where = f"{'' if found.shown == 1 else f'{found.sites} of '}the {shown} that this study shows."
    if found.is_disseminated:
        head = f"Imaging features compatible with dissemination in space: lesions in {where}"
    elif found.sites:
        head = f"Lesions in {where}"
    elif found.borderline:
        head = f"Borderline lesions alone in the {shown} that this study shows."
    else:
        head = f"No lesion of 3 mm or more in the {shown} that this study shows."
    return f"{head} Borderline lesions would add {found.borderline}." if found.borderline else head


def nerves_sentence(flair: Findings | None, fatsat: Findings | None) -> str:
    """Return what was said of the optic nerves, and how many sites there would be with it."""
    if fatsat is None:
        return NERVES_NOT_EXAMINED
    head = "Optic nerves (another series of this study):"
    sites = [site for site in fatsat.sites if site.site == "optic_nerve"]
    judged = [site for site in sites if site.status != "not analysed"]
    if not judged:
        return f"{head} not analysed."
    basis = rating_basis(segmenting_model(fatsat))
    said = f"{head} {nerves_rated(sites)}{basis and f', {basis}'}."
    found = sites_with_nerves(flair, fatsat)
    if found is None:
        return said
    is_positive = any(site.status == "positive" for site in judged)
    return f"{said} With {'it' if is_positive else 'them'}, {found[0]} of {found[1]} regions."


def sites_with_nerves(flair: Findings | None, fatsat: Findings | None) -> tuple[int, int] | None:
    """Return how many sites have lesions when the optic nerves count as one, and of how many; None where that is not known."""
    anatomy = _anatomy(flair)
    sites = [site for site in fatsat.sites if site.site == "optic_nerve"] if fatsat is not None else []
    is_positive = any(site.status == "positive" for site in sites)
    # A nerve that nobody looked at may be the one with the lesion: then there is no count without it.
    is_known = is_positive or (bool(sites) and all(site.status == "negative" for site in sites))
    if anatomy is None or not is_known:
        return None
    found = count_sites(anatomy)
    return (found.sites + is_positive, found.shown + 1) if found.shown else None


def nerves_rated(sites: list[SiteFinding]) -> str:
    """Return the answer for each optic nerve in one clause ("right rated suspicious, left not")."""
    words = {"positive": "rated suspicious", "negative": "not rated suspicious"}
    told = [(site.laterality, words.get(site.status, "not analysed")) for site in sites]
    if len(told) == 2 and told[0][1] == told[1][1]:
        return f"{told[0][0]} and {told[1][0]} {told[0][1]}"
    if len(told) == 2 and {said for _, said in told} == set(words.values()):
        (positive, _), (negative, _) = sorted(told, key=lambda item: item[1] != words["positive"])
        return f"{positive} rated suspicious, {negative} not"
    return ", ".join(f"{side} {said}" for side, said in told)


def rating_basis(model: ModelCard | None) -> str:
    """Return what is to be said of a classifier wherever its rating stands; nothing where it has learnt from patients."""
    if model is None:
        return "by a classifier without a model card"
    if model.trained_on == "synthetic":
        return NEVER_SEEN
    if model.classes_trained_on == "synthetic":
        return "by a classifier whose ratings were learnt from synthetic data alone"
    return ""


def cord_sentence(flair: Findings | None) -> str:
    """Return that the cord was not examined, and what the criteria are for; nothing where they are not spoken of at all."""
    return "" if flair is not None and flair.not_typical else CORD


def age_sentence(flair: Findings | None, age_years: float | None) -> str:
    """Return what age means for lesions of the white matter; nothing for the young, or without a FLAIR of demyelination."""
    if flair is None or flair.status not in ("findings", "none") or flair.not_typical:
        return ""
    return AGE if age_years is None or age_years >= SPECIAL_AGE else ""


def _anatomy(flair: Findings | None) -> Anatomy | None:
    if flair is None or flair.status not in ("findings", "none") or flair.not_typical:
        return None
    anatomy = flair.anatomy
    return anatomy if anatomy is not None and not anatomy.not_available else None


def _is_shown_site(load: RegionLoad, anatomy: Anatomy) -> bool:
    return load.region in BRAIN_SITES and load.region not in anatomy.not_covered


def _count(load: RegionLoad | None) -> str:
    if load is None:
        return "0"
    return f"{load.lesions} ({load.borderline} borderline)" if load.borderline else f"{load.lesions}"
