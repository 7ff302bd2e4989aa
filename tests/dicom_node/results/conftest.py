"""Makes the module ``result_factories`` of this folder importable by its tests, and the case that they read."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_NAME = "result_factories"
if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_NAME, Path(__file__).with_name(f"{_NAME}.py"))
    assert _spec is not None and _spec.loader is not None
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])

from result_factories import Case  # noqa: E402


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return the plain case, built once for all tests that only read it."""
    return Case.make(tmp_path_factory.mktemp("plain"))
