"""Match of a series with a pipeline: the guard, then the rules in their order, with every verdict kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from dicom_node.routing.guard import refusal
from dicom_node.routing.rules import PLANE_TOLERANCE_DEG, Condition, Rule, word_pattern, word_text
from dicom_node.routing.summary import series_summary
from dicom_node.routing.values import (
    FREE_TEXT_KEYS,
    UNITS,
    Tilt,
    number,
    plane_holds,
    show,
    show_number,
    show_terms,
    value_of,
)
from dicom_node.series.headers import ImageHeader

NUMBER_TOLERANCE = 1e-4
"""Relative; headers carry 0.8000001 and 2569.9900000000002."""

_Counts = Counter[tuple[object, ...]]
"""How many images have which values of a key."""

_FAILURES_NAMED = 2
_VALUES_SHOWN = 3
_ITEMS_SHOWN = 8


@dataclass(frozen=True)
class Check:
    """One condition of a rule on one series.

    Attributes
    ----------
    section : str
        ``all``, ``none``, or ``any.<group>``.
    key, wanted, value : str
        The key, what the condition wants in words, and what the images have.
    said : str
        What the images have, without free text and terms that nobody has defined.
    met : bool
        For ``all`` and ``any``: the condition holds on every image. For ``none``: it holds on no image.
    against : int
        Number of images that speak against it.
    images : int
        Number of images of the series.
    excluded : str
        For ``none``: the words of the rule that were found.
    """

    section: str
    key: str
    wanted: str
    value: str
    said: str
    met: bool
    against: int
    images: int
    excluded: str = ""


@dataclass(frozen=True)
class Trial:
    """One rule tried on one series, with the verdict of each of its conditions."""

    rule: str
    pipeline: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[tuple[Check, ...], ...]:
        """Checks that the rule fails: one each, or all those of an ``any`` group of which none is met."""
        failed: list[tuple[Check, ...]] = []
        failed += [
            (check,) for check in self.checks if not check.section.startswith("any.") and not check.met
        ]
        groups = dict.fromkeys(check.section for check in self.checks if check.section.startswith("any."))
        for group in groups:
            members = tuple(check for check in self.checks if check.section == group)
            if not any(check.met for check in members):
                failed.append(members)
        return tuple(failed)

    @property
    def distance(self) -> tuple[int, int]:
        """Distance of the rule from applying: its failures, and of equals the one of which more is met."""
        return len(self.failures), -len(self.checks)

    @property
    def matched(self) -> bool:
        """True when the rule wants the series."""
        return not self.failures


@dataclass(frozen=True)
class Decision:
    """Decision on a series: where it goes, and why.

    Attributes
    ----------
    pipeline, rule : str or None
        None when nothing wants the series.
    reason : str
        One line for the worklog; holds no text that a person typed into the header.
    trials : tuple of Trial
        Every rule with every verdict; empty when the guard refused the series.
    """

    pipeline: str | None
    rule: str | None
    reason: str
    trials: tuple[Trial, ...]


def decide(headers: Sequence[ImageHeader], rules: Sequence[Rule]) -> Decision:
    """Choose the pipeline for a series, from the tags of all its images.

    Our own results, derived images, other modalities and series of several orientations go nowhere, whatever
    the rules say.

    Parameters
    ----------
    headers : sequence of ImageHeader
        All images of one series, in any order.
    rules : sequence of Rule
        The first that applies decides.
    """
    refused = refusal(headers)
    if refused is not None:
        return Decision(None, None, refused, ())

    @cache
    def counts_of(key: str) -> _Counts:
        """Count the values of a key, which several conditions may ask for."""
        return Counter(value_of(header, key) for header in headers)

    trials = tuple(_try(rule, counts_of) for rule in rules)
    found = next((trial for trial in trials if trial.matched), None)
    if found is not None:
        return Decision(found.pipeline, found.rule, f"rule {found.rule}: {series_summary(headers)}", trials)
    reason = f"no rule wants it: {series_summary(headers)}"
    if trials:
        nearest = min(trials, key=lambda trial: trial.distance)
        reason += f"; nearest rule {nearest.rule} fails on {_failures(nearest)}"
    return Decision(None, None, reason, trials)


def _try(rule: Rule, counts_of: Callable[[str], _Counts]) -> Trial:
    sections: list[tuple[str, Mapping[str, Condition]]] = [("all", rule.all)]
    sections += [(f"any.{group}", conditions) for group, conditions in rule.any.items()]
    sections += [("none", rule.none)]
    checks = [
        _check(section, key, condition, counts_of(key))
        for section, conditions in sections
        for key, condition in conditions.items()
    ]
    return Trial(rule.name, rule.pipeline, tuple(checks))


def _check(section: str, key: str, condition: Condition, counts: _Counts) -> Check:
    images = sum(counts.values())
    wrong = section == "none"  # there, an image on which the condition holds speaks against the series
    against = {value: n for value, n in counts.items() if _holds(condition, value) == wrong}
    shown = against if 0 < sum(against.values()) < images else counts
    ordered = sorted(shown, key=repr)
    return Check(
        section=section,
        key=key,
        wanted=("not " if wrong else "") + wanted(key, condition),
        value=_distinct(ordered, lambda value: show(value, key)),
        said=_distinct(ordered, lambda value: show_terms(value, key, condition.has)),
        met=not against,
        against=sum(against.values()),
        images=images,
        excluded=", ".join(_words_in(condition, against)) if wrong else "",
    )


def _words_in(condition: Condition, values: Iterable[tuple[object, ...]]) -> list[str]:
    """The words of a condition that occur in any of some values."""
    texts = [word_text(_as_text(part)) for value in values for part in value]
    return [phrase for phrase in condition.words if any(_words((phrase,)).search(text) for text in texts)]


def _holds(condition: Condition, value: tuple[object, ...]) -> bool:
    if not value:
        return condition.missing == "pass"
    if isinstance(value[0], Tilt):
        tolerance = PLANE_TOLERANCE_DEG if condition.within_deg is None else float(condition.within_deg)
        return all(plane_holds(condition, tilt, tolerance) for tilt in value if isinstance(tilt, Tilt))
    return _numbers_hold(condition, value) and _texts_hold(condition, [_as_text(part) for part in value])


def _numbers_hold(condition: Condition, value: tuple[object, ...]) -> bool:
    for part in value if condition.min is not None or condition.max is not None else ():
        figure = number(part)
        if figure is None:
            return False
        slack = NUMBER_TOLERANCE * max(abs(figure), 1e-3)
        if condition.min is not None and figure < condition.min - slack:
            return False
        if condition.max is not None and figure > condition.max + slack:
            return False
    return True


def _texts_hold(condition: Condition, texts: Sequence[str]) -> bool:
    if condition.has:
        allowed = {item.casefold() for item in condition.has}
        if not any(text.casefold() in allowed for text in texts):
            return False
    if condition.words:
        pattern = _words(condition.words)
        if not any(pattern.search(word_text(text)) for text in texts):
            return False
    if condition.matches is not None:
        expression = _expression(condition.matches)
        return any(expression.search(text) for text in texts)
    return True


@lru_cache(maxsize=512)
def _words(phrases: tuple[str, ...]) -> re.Pattern[str]:
    return word_pattern(phrases)


@lru_cache(maxsize=512)
def _expression(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


def _as_text(part: object) -> str:
    return show_number(part) if isinstance(part, float) else str(part)


def wanted(key: str, condition: Condition) -> str:
    """Return in words what a condition wants."""
    unit = f" {UNITS[key]}" if key in UNITS else ""
    parts = []
    low, high = condition.min, condition.max
    if low is not None and high is not None:
        parts.append(f"{low:g} to {high:g}{unit}")
    elif low is not None:
        parts.append(f"at least {low:g}{unit}")
    elif high is not None:
        parts.append(f"at most {high:g}{unit}")
    if condition.has:
        parts.append(_few(condition.has, " or "))
    if key == "Plane":
        parts.append(f"within {condition.within_deg or PLANE_TOLERANCE_DEG:g} degrees")
    if condition.words:
        parts.append("words: " + _few(condition.words, ", "))
    if condition.matches is not None:
        parts.append(f"text like /{condition.matches}/")
    return " ".join(parts) + (" or missing" if condition.missing == "pass" else "")


def _few(items: Sequence[str], separator: str) -> str:
    shown, more = items[:_ITEMS_SHOWN], len(items) - _ITEMS_SHOWN
    return separator.join(shown) + (f", and {more} more" if more > 0 else "")


def _distinct(values: Sequence[tuple[object, ...]], show_one: Callable[[tuple[object, ...]], str]) -> str:
    texts = list(dict.fromkeys(show_one(value) if value else "missing" for value in values))
    more = len(texts) - _VALUES_SHOWN
    return " | ".join(texts[:_VALUES_SHOWN]) + (f" | and {more} more" if more > 0 else "")


def _failures(trial: Trial) -> str:
    failures = trial.failures
    named = [_failure(group) for group in failures[:_FAILURES_NAMED]]
    more = len(failures) - len(named)
    return ", ".join(named) + (f", and {more} more" if more else "")


def _failure(checks: tuple[Check, ...]) -> str:
    """One failure for the worklog: no free text or undefined term of the header, no long lists of words."""
    check = checks[0]
    if check.section.startswith("any."):
        return f"{check.section.removeprefix('any.')} (nothing shows it)"
    if check.key in FREE_TEXT_KEYS:
        excluded = f"the rule excludes {check.excluded or 'such a text'}"
        what = excluded if check.section == "none" else "not as the rule wants it"
        return f"{check.key} ({'missing' if check.value == 'missing' else what})"
    share = f" on {check.against} of {check.images} images" if check.against < check.images else ""
    if check.section == "none":
        return f"{check.key} ({check.said}{share})"
    return f"{check.key} ({check.said}{share}, wanted {check.wanted})"
