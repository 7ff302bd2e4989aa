"""A pipeline that takes milliseconds and, when a test orders it, raises, hangs, runs out of memory or crashes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pipelines import weights
from pipelines.types import (
    Findings,
    Heatmap,
    Lesion,
    Measurement,
    ModelCard,
    Pipeline,
    PipelineInfo,
    Progress,
    Segment,
    Volume,
)

INFO = PipelineInfo("flair", "FLAIR lesions", "1", "0" * 64, {"threshold": 0.5})
LEAST_SIDE_PX = 16
"""Pictures of these tests, of which there are thousands, stay as small as their slices."""
CARD = ModelCard("fake", "1.0.0", "sha256:" + "ab" * 32, "1.2.3.4", "synthetic", "lesion segmentation")


class OutOfMemoryError(RuntimeError):
    """What torch raises where a GPU has no memory left; it goes by this name."""


class Orders:
    """A folder in which each file is an order to the pipeline, in whichever process it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def give(self, what: str, times: int = 1) -> None:
        """Order something for the next analyses."""
        for number in range(times):
            (self.folder / f"{what}-{number}").touch()

    def take(self, what: str) -> bool:
        """Tell whether something is ordered, and count it as done."""
        for path in self.folder.glob(f"{what}-*"):
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            return True
        return False

    def clear(self) -> None:
        """Withdraw every order."""
        for path in self.folder.glob("*-*"):
            path.unlink(missing_ok=True)

    def close_gate(self) -> None:
        """Let analyses wait until the gate is opened."""
        (self.folder / "gate").touch()

    def open_gate(self) -> None:
        """Let them go on."""
        (self.folder / "gate").unlink(missing_ok=True)

    def at_gate(self) -> list[int]:
        """Return the processes that wait at the gate, or did."""
        return sorted(int(path.name.removeprefix("waits.")) for path in self.folder.glob("waits.*"))

    def note(self, name: str, line: str) -> None:
        """Append a line to a list that the test reads."""
        with (self.folder / name).open("a") as stream:
            stream.write(line + "\n")

    def noted(self, name: str) -> list[str]:
        """Return such a list."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


class FakeRegistry:
    """Has one pipeline, ``flair``; weights are looked at when the orders' folder holds a folder of that name."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders

    def installed(self) -> Mapping[str, PipelineInfo]:
        """Return the one pipeline."""
        return {INFO.name: INFO}

    def load(self, name: str, device: str) -> Pipeline:
        """Return it."""
        self.orders.note("loaded", device)
        folder = self.orders.folder / "weights"
        if folder.is_dir():
            weights.verify(folder)
        return lambda volume, settings, progress: self._run(device, volume, progress)

    def _run(self, device: str, volume: Volume, progress: Progress) -> Findings:
        orders = self.orders
        orders.note("ran", str(os.getpid()))
        while (orders.folder / "gate").exists():
            (orders.folder / f"waits.{os.getpid()}").touch()
            time.sleep(0.01)
        if device != "cpu" and orders.take("gpu-memory"):
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        for what, do in MISCHIEF.items():
            if orders.take(what):
                do()
        progress("network", 0.01)
        return find(volume)


def _raise() -> None:
    raise KeyError("NAME^OF^PATIENT")


def _run_out_of_memory() -> None:
    raise MemoryError


def _hang() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)


MISCHIEF: Mapping[str, Callable[[], None]] = {
    "raise": _raise,
    "memory": _run_out_of_memory,
    "hang": _hang,
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "oom-killer": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def find(volume: Volume) -> Findings:
    """One lesion, its mask and one heatmap."""
    shape = volume.array.shape
    mask = np.zeros(shape, dtype=bool)
    box = tuple(slice(n // 3, n // 3 + 3) for n in shape)
    mask[box] = True
    middle = np.argwhere(mask).mean(axis=0)
    x, y, z = volume.position_lps(middle)
    volume_mm3 = float(mask.sum() * volume.voxel_volume_mm3)
    slices = (box[0].start, box[0].stop - 1)
    return Findings(
        status="findings",
        segments=(Segment("Lesion", "lesion_of_brain", mask),),
        lesions=(Lesion(1, "Lesion", volume_mm3, (x, y, z), 0.9, slices),),
        measurements=(
            Measurement("lesion_count", 1, "{lesions}"),
            Measurement("volume", volume_mm3, "mm3", derivation="total"),
        ),
        heatmaps=(Heatmap("map", "None.", "MS", 0.5, mask.astype(np.float32), (slices[0],), CARD.name),),
        models=(CARD,),
    )
