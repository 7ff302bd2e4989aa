"""Heads from the MNI152 template, which take seconds to make, are made once for all processes (see tests/kept.py)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial

import pytest

from pipelines.phantoms import flair, head
from pipelines.training.synthetic import anatomy
from tests.kept import kept


@pytest.fixture(scope="session", autouse=True)
def heads_made_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flair, "mni_head", cache(partial(kept, head.mni_head.__wrapped__)))
        patch.setattr(anatomy, "from_template", partial(kept, anatomy.from_template))
        yield
