"""What all tests share: the data folder, and the modules ``factories``, ``forbidden_words`` and ``rig``."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SLOW_MARKS = {"slow", "integration", "long"}
UNMARKED_S = 10.0
"""What takes more than a second on an idle core is marked; a busy or slow machine, and the first import of torch, take more."""

# Not by sys.path: this folder holds a "dicom_node" of its own, which would hide the package.
for _name in ("factories", "forbidden_words", "rig"):
    _spec = importlib.util.spec_from_file_location(_name, HERE / f"{_name}.py")
    assert _spec is not None and _spec.loader is not None
    if _name not in sys.modules:
        sys.modules[_name] = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(sys.modules[_name])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked long, and others for longer")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    for item in items:
        if "long" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="only in the long mode: bash deploy/test.sh --long"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take libraries and tests out of the garbage collector's rounds: they stay to the end, and are millions of objects."""
    gc.collect()
    gc.freeze()


def _own_cpu_s() -> float:
    """Return the processor time so far, however busy the machine is, without that of things made once for many tests."""
    kept = sys.modules.get("tests.kept")
    return sum(os.times()[:4]) - (sum(kept.spent) if kept else 0.0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that computes for long without a mark that says so: the fast checks stay fast."""
    before = _own_cpu_s()
    yield
    seconds = _own_cpu_s() - before
    if seconds > UNMARKED_S and not SLOW_MARKS.intersection(mark.name for mark in item.iter_markers()):
        pytest.fail(f"it took {seconds:.1f} s of CPU time: mark it slow, or make it shorter")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images and headers that lies beside the checkout."""
    folder = HERE.parents[1] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder
