"""A data folder, and small real objects that come into it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.spool.spool import Spool

_NUMBERS = itertools.count(1)


def put_file(spool: Spool, association: str, content: bytes) -> Path:
    """Put a file into the inbox under a name as the receiver gives it."""
    path = spool.inbox / f"{association}-{next(_NUMBERS):06d}.dcm"
    path.touch(0o600)
    path.write_bytes(content)
    return path


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data", high_water=1.0)


@pytest.fixture
def put(spool: Spool) -> Callable[[str, bytes], Path]:
    """Put a file into the inbox as the receiver leaves it."""
    return functools.partial(put_file, spool)


@pytest.fixture
def make_image() -> Callable[..., Dataset]:
    """Make a small MR image of random pixels; keywords become elements."""

    def make(
        number: int = 1, *, seed: int = 0, syntax: str = ExplicitVRLittleEndian, **elements: Any
    ) -> Dataset:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.SOPClassUID = MRImageStorage
        ds.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.1.{number}"
        ds.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.2"
        ds.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.3"
        ds.Modality = "MR"
        ds.PatientName = "Secret^Name"
        ds.PatientID = "SECRET-ID"
        ds.InstanceNumber = number
        ds.Rows = ds.Columns = 16
        ds.SamplesPerPixel = 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        pixels = np.random.default_rng([seed, number]).integers(0, 4000, (16, 16), dtype=np.uint16)
        ds.add_new("PixelData", "OW", pixels.tobytes())
        for keyword, value in elements.items():
            setattr(ds, keyword, value)
        return ds

    return make
