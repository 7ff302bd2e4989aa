"""``priors``: which earlier studies would be compared with a job's, without asking for them."""

from __future__ import annotations

from dicom_node.commands.console import ConfigOption, out, settings_of
from dicom_node.commands.history import IdArgument


def priors(identifier: IdArgument, config: ConfigOption = None) -> None:
    """Show which earlier studies the PACS has of a job's patient, which would be asked for, and why the others not."""
    from dicom_node.priors.preview import preview

    for line in preview(settings_of(config), identifier):
        out.print(line)
