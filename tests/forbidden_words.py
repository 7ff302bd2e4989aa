"""Words that no text of the product may say of a patient: ``from forbidden_words import forbidden_in``."""

from __future__ import annotations

import re

_FORBIDDEN = re.compile(
    r"\bdiagnos\w*|(?:meet|fulfil|satisf)\w* the mcdonald|consistent with ms|active disease|\bprogression\b|\bneda\b"
    r"|\batroph\w*|stable disease",
    re.IGNORECASE,
)
_DISCLAIMER = re.compile(r"not (?:a medical device, not )?a diagnosis", re.IGNORECASE)
"""The one place of the word: it says what a result is not."""


def forbidden_in(text: str) -> list[str]:
    """Return the forbidden words in a text of the product's own; meanings of standard codes are none of it."""
    return _FORBIDDEN.findall(_DISCLAIMER.sub("", " ".join(text.split())))
