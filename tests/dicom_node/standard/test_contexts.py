"""Abstract and transfer syntaxes that are taken."""

from __future__ import annotations

import pytest
from pydicom import uid as uids

from dicom_node.standard.contexts import STORAGE_CLASSES, TRANSFER_SYNTAXES, VERIFICATION, is_storage_class


@pytest.mark.parametrize(
    "uid",
    [
        uids.MRImageStorage,
        uids.EnhancedMRImageStorage,
        uids.SegmentationStorage,
        uids.Comprehensive3DSRStorage,
        uids.EncapsulatedPDFStorage,
        uids.RawDataStorage,
        uids.MRSpectroscopyStorage,
        "1.2.840.10008.5.1.4.1.1.5",  # Nuclear Medicine Image Storage, retired
        "1.3.12.2.1107.5.9.1",  # Siemens CSA Non-Image Storage
        "1.2.840.113619.4.30",  # GE private
        "1.2.840.10008.5.1.4.1.1.9999.1",  # newer than the registry
    ],
)
def test_storage_retired_private_and_new_classes_are_taken(uid):
    assert is_storage_class(uid)


@pytest.mark.parametrize(
    "uid",
    [
        VERIFICATION,
        "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.5.1.4.1.2.2.1",  # Study Root Query/Retrieve FIND
        "1.2.840.10008.5.1.4.31",  # Modality Worklist
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol Storage: no patient, no series
        "1.2.840.10008.5.1.4.1.1.201.2",  # Inventory FIND, below the storage root
    ],
)
def test_other_services_are_not_taken_for_storage(uid):
    assert not is_storage_class(uid)


def test_every_patient_storage_class_of_the_registry_is_listed_once():
    assert len(STORAGE_CLASSES) == len(set(STORAGE_CLASSES)) > 180


def test_transfer_syntaxes_are_registered_and_listed_once():
    assert len(TRANSFER_SYNTAXES) == len(set(TRANSFER_SYNTAXES))
    assert all(uid.is_transfer_syntax for uid in TRANSFER_SYNTAXES)


@pytest.mark.parametrize(
    "name",
    [
        "ImplicitVRLittleEndian",
        "ExplicitVRBigEndian",
        "DeflatedExplicitVRLittleEndian",
        "JPEGBaseline8Bit",
        "JPEGExtended12Bit",
        "JPEGLossless",
        "JPEGLosslessSV1",
        "JPEGLSLossless",
        "JPEGLSNearLossless",
        "JPEG2000Lossless",
        "JPEG2000",
        "HTJ2KLossless",
        "HTJ2K",
        "RLELossless",
    ],
)
def test_usual_encodings_are_taken(name):
    assert getattr(uids, name) in TRANSFER_SYNTAXES


def test_explicit_little_endian_is_liked_best_and_pixels_elsewhere_are_refused():
    assert TRANSFER_SYNTAXES[0] == uids.ExplicitVRLittleEndian
    assert not {"1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95"} & set(TRANSFER_SYNTAXES)
