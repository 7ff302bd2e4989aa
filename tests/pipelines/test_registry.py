"""The registry says what is installed without loading torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines import registry, weights
from pipelines.errors import PipelineError
from pipelines.types import ModelCard


def test_importing_the_registry_loads_no_torch() -> None:
    code = "import sys, pipelines.registry; sys.exit('torch' in sys.modules or 'SimpleITK' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_flair_is_installed_with_the_digest_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    card = ModelCard("joint", "1", "ab12", "2.25.1", "synthetic", "Lesions on FLAIR")
    monkeypatch.setattr(weights, "card", lambda name: card)
    info = registry.installed()
    assert set(info) == {"flair"}
    assert info["flair"].weights_digest == "ab12"
    assert info["flair"].default_settings == {"threshold": 0.5}


def test_unknown_pipeline_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(PipelineError, match='no pipeline "fatsat" installed; there is: flair'):
        registry.load("fatsat", "cpu")
