"""Rows and findings of made-up patients: ``from cohort_factories import rows, found, image``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_NAME = "cohort_factories"
if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_NAME, Path(__file__).with_name(f"{_NAME}.py"))
    assert _spec is not None and _spec.loader is not None
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])
