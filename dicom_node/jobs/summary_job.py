"""Job of a study's page: it is the node's own, goes to no worker, and is known by its study and its revision."""

from __future__ import annotations

import hashlib
import json
from typing import Final

SUMMARY: Final = "summary"
"""Stands where other jobs have their pipeline."""
MOST_REVISIONS: Final = 3
"""So often is a page made anew for late parts; it would come for ever where an archive sends a study again and again."""


def summary_id(study_uid: str, revision: int) -> str:
    """Return the ID, 32 hex digits, of the job of a page: whichever process makes it, it is the same."""
    text = json.dumps([SUMMARY, study_uid, revision])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
