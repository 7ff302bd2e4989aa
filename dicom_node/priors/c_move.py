"""C-MOVE of one series to the node itself: the archive sends it over associations of its own.

References
----------
DICOM PS3.4 C.4.2 (C-MOVE), table C.4-2 (status values)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove

from dicom_node.deliver.association import NoContextError, RejectedError, associate
from dicom_node.errors import DeliveryError, PriorError
from dicom_node.priors.again import AskAgainError, BusyError, DeclinedError
from dicom_node.priors.archive import Archive
from dicom_node.standard.status import NOT_AUTHORISED, SOP_CLASS_NOT_SUPPORTED, SUCCESS, is_temporary

PENDING = (0xFF00, 0xFF01)
WARNING = 0xB000  # complete, one or more sub-operations failed: what has come is looked at
UNKNOWN_DESTINATION = 0xA801
CANCELLED = 0xFE00


def c_move(archive: Archive, study_uid: str, series_uid: str, on_progress: Callable[[], None]) -> str:
    """Have an archive send a series to this node; return what it says of it.

    Parameters
    ----------
    on_progress : callable
        Called each time that the archive says that it is still at it.

    Raises
    ------
    AskAgainError
        It can't be reached, lacks resources, or is silent for too long.
    PriorError
        It does not do it, and will not.
    """
    ds = series_identifier(study_uid, series_uid)
    context = build_context(
        StudyRootQueryRetrieveInformationModelMove, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    )
    with (
        refusals_of("C-MOVE", other="get"),
        associate(archive.address, archive.ae_title, [context], timeouts=archive.timeouts) as assoc,
        archive.open.holding(assoc),
    ):
        answers = assoc.send_c_move(ds, archive.ae_title, StudyRootQueryRetrieveInformationModelMove)
        return outcome_of("C-MOVE", answers, archive, on_progress)


@contextmanager
def refusals_of(service: str, *, other: str) -> Iterator[None]:
    """Tell a refusal of a C-MOVE or C-GET from trouble that may pass.

    Parameters
    ----------
    other : str
        Value of ``[priors] retrieve`` that does without the service.

    Raises
    ------
    AskAgainError
        The archive can't be reached, or the association ended too early.
    PriorError
        It refuses the association or the service.
    """
    try:
        yield
    except NoContextError as error:
        raise PriorError(
            f'it offers no {service}; allow it there, or set [priors] retrieve = "{other}"'
        ) from error
    except RejectedError as error:
        raise PriorError(str(error)) from error
    except (DeliveryError, RuntimeError) as error:  # RuntimeError: released or aborted meanwhile
        raise AskAgainError(str(error)) from error


def series_identifier(study_uid: str, series_uid: str) -> Dataset:
    """Return the identifier of a series in the Study Root information model."""
    ds = Dataset()
    ds.QueryRetrieveLevel = "SERIES"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, series_uid
    return ds


def outcome_of(
    service: str,
    answers: Iterable[tuple[Dataset, Dataset | None]],
    archive: Archive,
    on_progress: Callable[[], None],
) -> str:
    """Return what an archive says at the end of a C-MOVE or C-GET.

    Raises
    ------
    AskAgainError
        It lacks resources, was cancelled, or fell silent.
    PriorError
        It does not do it.
    """
    for status, _ in answers:
        if "Status" not in status:
            # Orthanc aborts the association of a caller that it does not know, and sends no status.
            way_out = f"; if it does not know this node yet, enter {archive.ae_title} there"
            raise AskAgainError(f"it broke off or fell silent in a {service}{way_out}")
        code = int(status.Status)
        if code in PENDING:
            on_progress()
            continue
        if code in (SUCCESS, WARNING):
            return f"{service} ended with {code:04X}, {_counts(status)}"
        if code == UNKNOWN_DESTINATION:
            raise PriorError(
                f"it does not know this node as a move destination ({code:04X}): enter {archive.ae_title} there as one, "
                "with this host's address and port"
            )
        text = f"it answered {service} with {code:04X}"
        if is_temporary(code) or code == CANCELLED or 0xC000 <= code <= 0xCFFF:
            raise BusyError(text)
        if code in (NOT_AUTHORISED, SOP_CLASS_NOT_SUPPORTED):
            raise PriorError(f"{text}: allow it for {archive.ae_title} there")
        raise DeclinedError(text)
    raise AskAgainError(f"it did not end the {service}")


def _counts(status: Dataset) -> str:
    done, failed = (int(status.get(f"NumberOf{kind}Suboperations") or 0) for kind in ("Completed", "Failed"))
    return f"{done} sent" + (f", {failed} not sent" if failed else "")
