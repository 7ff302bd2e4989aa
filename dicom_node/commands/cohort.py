"""``models cohort``: files of lesion volumes to compare a patient's with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.commands.console import ConfigOption, out, settings_of
from dicom_node.errors import CohortError, NotFoundError

cohort = typer.Typer(help="Cohorts of patients, to compare lesion volumes with.", no_args_is_help=True)


@cohort.command()
def build(
    file: Annotated[Path, typer.Argument(help="The CSV file to be made.")],
    source: Annotated[
        str, typer.Option(help="What reports call the cohort's origin, as the hospital's name.")
    ],
    group: Annotated[
        str, typer.Option(help='Whom it is of, as "MS"; "healthy" only where each was found so.')
    ] = "unselected",
    config: ConfigOption = None,
) -> None:
    """Make the file of a cohort from the first studies in the data folder: one a patient, nothing that names one."""
    from dicom_node.cohort.build import first_studies
    from dicom_node.cohort.table import checked_words, write_cohort
    from dicom_node.jobs.store import Store
    from dicom_node.jobs.why import STATE_NAME
    from dicom_node.spool.spool import Spool

    settings = settings_of(config)
    if not settings.cohort.build:
        raise CohortError(
            "[cohort] build is false: no studies of patients may be used; set it to true where they may"
        )
    checked_words(group, "group")
    checked_words(source, "source")
    path = settings.node.data / STATE_NAME
    if not path.exists():
        raise NotFoundError(f"{settings.node.data}: no node has worked in this data folder")
    store = Store(path)
    try:
        built = first_studies(store, Spool(settings.node.data), group, source)
    finally:
        store.close()
    write_cohort(built.rows, file)
    out.print(f"{file}: {len(built.rows)} patients; [cohort] file names it to compare with")
    for reason, count in sorted(built.left_out.items()):
        out.print(f"  left out: {count} {reason}")
