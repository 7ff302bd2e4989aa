"""The error of an archive that can't answer now, and the waits before it is asked again."""

from __future__ import annotations

from dicom_node.errors import PriorError

WAITS_S = (60.0, 300.0, 1500.0)
"""Waits before an archive is asked again that could not be reached or lacked resources; after the last it is given up."""


class AskAgainError(PriorError):
    """The archive can't be reached, lacks resources or is slow: a later try may succeed."""


class BusyError(AskAgainError):
    """The archive answered that it can't do it now."""


class DeclinedError(PriorError):
    """The archive answered that it does not do it for this series."""
