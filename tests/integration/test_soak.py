"""The soak of an hour, in the long mode."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(4 * 3600)]
SOAK = Path(__file__).with_name("soak.py")


def test_an_hour_of_mixed_studies_loses_nothing() -> None:
    """The script prints its table, and says what went wrong by its exit status."""
    subprocess.run([sys.executable, SOAK, "--minutes", "60"], check=True)
