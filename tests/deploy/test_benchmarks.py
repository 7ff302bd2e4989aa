"""Benchmarks run where OPERATIONS.md says: in the environment of the node, without the test extra."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import find_program

ROOT = Path(__file__).parents[2]
TEST_EXTRA = ("pytest", "hypothesis", "trustme", "yaml", "xdist")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["-m", "tests.benchmarks.turnaround"],
        ["tests/benchmarks/receive.py"],
        ["tests/benchmarks/eyes.py"],
        ["-m", "tests.benchmarks.overview"],
        ["tests/benchmarks/hostile.py"],
    ],
)
def test_benchmark_tells_its_options_without_the_test_extra(command: list[str], tmp_path: Path) -> None:
    for name in TEST_EXTRA:
        (tmp_path / f"{name}.py").write_text("raise ModuleNotFoundError(__name__)")
    told = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "--help" in told.stdout


def test_script_of_the_name_of_a_program_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, content in (("environment", b"#!/usr/bin/python3\n"), ("system", b"\x7fELF")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "storescu").write_bytes(content)
        (tmp_path / folder / "storescu").chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in ("environment", "system")))
    assert find_program("storescu") == str(tmp_path / "system" / "storescu")
