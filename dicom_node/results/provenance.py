"""Provenance: who made an object, when, and what it may be used for; the same statements on every result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from dicom_node.results.context import ResultContext
from dicom_node.results.series_list import LONG_STRING, RESEARCH, listed_series
from dicom_node.results.source import copy_patient_and_study
from dicom_node.standard import codes
from dicom_node.standard.contexts import IMPLEMENTATION_CLASS_UID
from pipelines.types import Findings, ModelCard, Task

MANUFACTURER = "dicom-node project"
MODEL_NAME = "dicom-node"
DISCLAIMER = (
    "Research use only. Made by software without a radiologist; not a medical device, not a diagnosis. "
    "Do not base decisions on patient care on it."
)
RESEARCH_ONLY = "Research use only, made by software alone: not a medical device, not a diagnosis."
"""The disclaimer as the second line of a text to read."""
SYNTHETIC = (
    "trained on synthetic data; its clinical accuracy is not known, "
    "and it may only reflect the assumptions behind that data"
)
PARTLY_SYNTHETIC = (
    "trained on real and synthetic data; its clinical accuracy is not known, "
    "and it may reflect the assumptions behind the synthetic part"
)
SYNTHETIC_CLASSES = (
    "trained on real and synthetic data, and its classes were trained on synthetic data alone; its clinical accuracy is "
    "not known, and its classes may only reflect the assumptions behind that data"
)


def code_item(code: Code) -> Dataset:
    """Return a code as the item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def state_coding_scheme(ds: Dataset) -> None:
    """State what the project's own coding scheme is (PS3.3 C.12.1.1.1), in an object that uses it."""
    if any(item.keyword == "CodingSchemeDesignator" and item.value == codes.SCHEME for item in ds.iterall()):
        item = Dataset()
        item.CodingSchemeDesignator = codes.SCHEME
        item.CodingSchemeName = codes.SCHEME_NAME
        item.CodingSchemeResponsibleOrganization = MANUFACTURER
        ds.CodingSchemeIdentificationSequence = [item]


def is_synthetic(model: ModelCard) -> bool:
    """Tell whether any part of what the weights were trained on was synthetic."""
    return "synthetic" in model.trained_on


def training_remark(model: ModelCard | None) -> str:
    """Return what is to be said wherever a model names a disease; nothing for weights trained on real data alone."""
    if model is None:
        return "No model card says what this model was trained on."
    if not is_synthetic(model):
        return ""
    if model.classes_trained_on == "synthetic":
        return f"This model was {SYNTHETIC_CLASSES}."
    return f"This model was {SYNTHETIC if model.trained_on == 'synthetic' else PARTLY_SYNTHETIC}."


def training_origin(model: ModelCard | None) -> str:
    """Return what is to stand in a picture of what weights have learnt from; nothing where that was real data alone."""
    return f"trained on {model.trained_on} data" if model is not None and is_synthetic(model) else ""


def classes_origin(model: ModelCard) -> str:
    """Return what a model's classes were learnt from: "real", "synthetic" or "real and synthetic"."""
    return model.classes_trained_on or model.trained_on


def software_versions(model: ModelCard) -> list[str]:
    """Return SoftwareVersions (0018,1020) of a model: its version and its weights' digest."""
    return [model.version[:LONG_STRING] or "unknown", model.digest[-LONG_STRING:] or "unknown"]


def device_uid(model: ModelCard) -> UID:
    """Return the model card's DeviceUID, or one derived from the weights' digest."""
    stated = UID(model.device_uid)
    return stated if stated.is_valid else generate_uid(entropy_srcs=[model.name, model.digest])


def model_named(findings: Findings, name: str) -> ModelCard | None:
    """Return the model card with a name; the only one there is when the name fits none."""
    for model in findings.models:
        if model.name == name:
            return model
    return findings.models[0] if len(findings.models) == 1 else None


def segmenting_model(findings: Findings) -> ModelCard | None:
    """Return the model that made the masks: the first."""
    return findings.models[0] if findings.models else None


def mask_models(findings: Findings) -> tuple[ModelCard, ...]:
    """Return the models that drew the masks together: an ensemble, or the first model."""
    named = findings.tasks.get("mask", ())
    return tuple(model for model in findings.models if model.name in named) or findings.models[:1]


def models_behind(findings: Findings, *tasks: Task) -> tuple[ModelCard, ...]:
    """Return the models behind some kinds of result, so that an object names none whose result it does not hold.

    A model that no task names counts as behind all of them; an analysis that gave no result has none.
    """
    if findings.status not in ("findings", "none"):
        return ()
    elsewhere = {name for task, names in findings.tasks.items() if task not in tasks for name in names}
    here = {name for task in tasks for name in findings.tasks.get(task, ())}
    return tuple(model for model in findings.models if model.name in here or model.name not in elsewhere)


def ensemble_name(models: Sequence[ModelCard]) -> str:
    """Return the name under which models that answered together stand."""
    return models[0].name if len(models) == 1 else f"ensemble of {' and '.join(item.name for item in models)}"


def time_of(context: ResultContext, source: Dataset) -> datetime:
    """Return when the run was made, in the zone that the source's TimezoneOffsetFromUTC (0008,0201) names.

    The result keeps that attribute, which speaks for all its dates and times (PS3.3 C.12.1.1.8); without it, or with a
    broken one, the run's own zone stays.
    """
    try:
        zone = datetime.strptime(str(source.get("TimezoneOffsetFromUTC") or ""), "%z").tzinfo
    except ValueError:
        return context.created_at
    return context.created_at.astimezone(zone)


def finish(
    ds: Dataset,
    *,
    source: Dataset,
    context: ResultContext,
    models: Iterable[ModelCard],
    role: str,
    instance_number: int = 1,
    index: tuple[object, ...] = (),
    series_index: tuple[object, ...] = (),
) -> None:
    """Set what all objects share: patient and study, UIDs, place in the list, dates, equipment and the research mark.

    Every date is the context's, every UID derives from job, run, role and index, so that the same run gives the same
    bytes; values that highdicom took from the clock are overwritten.
    """
    copy_patient_and_study(source, ds)
    ds.SOPInstanceUID = context.derive_uid(role, "instance", *index)
    ds.SeriesInstanceUID = context.derive_uid(role, "series", *series_index)
    listed = listed_series(context, role)
    ds.SeriesNumber = listed.number
    ds.InstanceNumber = instance_number
    ds.SeriesDescription = listed.description
    created = time_of(context, source)
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    for prefix in ("InstanceCreation", "Content", "Series"):
        setattr(ds, f"{prefix}Date", date)
        setattr(ds, f"{prefix}Time", time)
    if ds.Modality != "SR" and source.get("BodyPartExamined"):
        ds.BodyPartExamined = source.BodyPartExamined
    ds.ContentQualification = RESEARCH
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = MODEL_NAME
    ds.DeviceSerialNumber = context.node_id[:LONG_STRING]
    ds.SoftwareVersions = context.node_version
    ds.ContributingEquipmentSequence = _contributing_equipment(source, models, date + time)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    ds.file_meta.ImplementationVersionName = "DICOM-NODE"


def write(ds: Dataset, path: Path) -> None:
    """Write a finished object as a DICOM file (PS3.10), Explicit VR Little Endian."""
    ds.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=True)


def _contributing_equipment(source: Dataset, models: Iterable[ModelCard], when: str) -> DicomSequence:
    """Return the scanner, then each algorithm (IHE AI Results; PS3.3 C.12.1.1.5)."""
    items = []
    if source.get("Manufacturer"):
        scanner = Dataset()
        scanner.PurposeOfReferenceCodeSequence = [code_item(codes.ACQUISITION_EQUIPMENT)]
        for keyword in (
            "Manufacturer",
            "ManufacturerModelName",
            "DeviceSerialNumber",
            "SoftwareVersions",
            "StationName",
        ):
            if source.get(keyword):
                scanner.add(source[keyword])
        items.append(scanner)
    for model in models:
        item = Dataset()
        item.PurposeOfReferenceCodeSequence = [code_item(codes.PROCESSING_EQUIPMENT)]
        item.Manufacturer = MANUFACTURER
        item.ManufacturerModelName = model.name[:LONG_STRING]
        item.SoftwareVersions = software_versions(model)
        item.DeviceUID = device_uid(model)
        item.ContributionDateTime = when
        item.ContributionDescription = f"{model.purpose}; trained on {model.trained_on} data"
        items.append(item)
    return DicomSequence(items)
