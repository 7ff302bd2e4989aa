"""C-GET of one series: the archive sends it over our own association, on which we are the provider of storage.

References
----------
DICOM PS3.4 C.4.3 (C-GET), PS3.7 D.3.3.4 (role selection)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, build_role, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet

from dicom_node.deliver.association import NoContextError, associate
from dicom_node.errors import SpoolError
from dicom_node.priors.archive import Archive
from dicom_node.priors.arrival import Arrival
from dicom_node.priors.c_move import outcome_of, refusals_of, series_identifier
from dicom_node.receive.file_meta import encode_file_meta
from dicom_node.spool.spool import SpoolFullError
from dicom_node.standard.contexts import TRANSFER_SYNTAXES
from dicom_node.standard.status import OUT_OF_RESOURCES, STORE_FAILED, SUCCESS
from dicom_node.standard.uids import ENHANCED_MR_IMAGE, MR_IMAGE

LEGACY_ENHANCED_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4.4"
CLASSES = (MR_IMAGE, ENHANCED_MR_IMAGE, LEGACY_ENHANCED_MR_IMAGE)
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
VIDEO = "1.2.840.10008.1.2.4.10"
"""How the UIDs of video encodings begin, in which no MR slices come."""
MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: odd IDs from 1 to 255


def c_get(
    archive: Archive, study_uid: str, series_uid: str, on_progress: Callable[[], None], arrival: Arrival
) -> str:
    """Get a series from an archive into the inbox; return what the archive says of it.

    Raises
    ------
    AskAgainError
        It can't be reached, lacks resources, or is silent for too long.
    PriorError
        It does not do it, and will not.
    """

    def take(event: Any) -> int:
        on_progress()
        request = event.request
        head = encode_file_meta(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            calling_ae=archive.address.ae_title,
        )
        try:
            arrival.take(head, [request.DataSet.getbuffer()])
        except SpoolFullError:
            return OUT_OF_RESOURCES
        except SpoolError:
            return STORE_FAILED
        return SUCCESS

    with (
        refusals_of("C-GET", other="move"),
        associate(
            archive.address,
            archive.ae_title,
            get_contexts(),
            timeouts=archive.timeouts,
            roles=[build_role(UID(uid), scp_role=True) for uid in CLASSES],
            handlers=[(evt.EVT_C_STORE, take)],
            takes_objects=True,
        ) as assoc,
        archive.open.holding(assoc),
    ):
        ds = series_identifier(study_uid, series_uid)
        try:
            answers = assoc.send_c_get(ds, StudyRootQueryRetrieveInformationModelGet)
        except ValueError as error:  # the context was not accepted
            raise NoContextError("no C-GET") from error
        return outcome_of("C-GET", answers, archive, on_progress)


def get_contexts() -> list[PresentationContext]:
    """Return the contexts of a C-GET of MR images: uncompressed ones, then each compressed encoding by itself.

    In one context the archive accepts a single encoding, which need not be the one that it has.
    """
    contexts = [build_context(StudyRootQueryRetrieveInformationModelGet, list(NATIVE))]
    contexts += [build_context(UID(uid), list(NATIVE)) for uid in CLASSES]
    others = [uid for uid in TRANSFER_SYNTAXES if uid not in NATIVE and not uid.startswith(VIDEO)]
    contexts += [build_context(UID(uid), syntax) for syntax in others for uid in CLASSES]
    return contexts[:MOST_CONTEXTS]
