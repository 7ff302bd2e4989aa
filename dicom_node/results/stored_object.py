"""Finished object as a file of a result folder, and its entry in the manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.results.manifest import ResultObject, Role
from dicom_node.results.provenance import write


def store(ds: Dataset, role: Role, path: Path) -> ResultObject:
    """Write one object, and return what the manifest says of it."""
    write(ds, path)
    return ResultObject(
        role=role,
        path=path.name,
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=str(ds.SOPInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        study_uid=str(ds.StudyInstanceUID),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
