"""The commands of ``dicom-node models`` that make data sets; each imports what it needs, as in `pipelines.training.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.errors import DataSetError
from pipelines.training.options import FATSAT, DataOption, DeviceOption, IndexOption
from pipelines.training.screen import print_line


def phantom(
    folder: Annotated[Path, typer.Option("--out", help="Where the cases and index.csv go.")],
    count: Annotated[int, typer.Option(help="How many cases.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="The same seed gives the same cases.")] = 0,
    data: DataOption = None,
    kind: Annotated[str, typer.Option(help="flair, or fatsat: orbits with known optic nerves.")] = "flair",
    on: Annotated[
        Path | None,
        typer.Option(
            help="flair: a data set of real scans with lesion masks; paint MS and NMOSD into them instead."
        ),
    ] = None,
    lesion_free: Annotated[
        bool, typer.Option("--lesion-free", help="flair: heads without lesions, to see what is drawn there.")
    ] = False,
) -> None:
    """Write synthetic FLAIR or FAT-SAT cases with known lesions as a data set in NIfTI."""
    if kind not in ("flair", FATSAT):
        raise DataSetError(f"--kind is flair or {FATSAT}, not {kind!r}")
    if on is not None and (kind == FATSAT or data is not None):
        raise DataSetError("--on paints into the FLAIR scans that it names; leave out --kind and --data")
    if lesion_free and (kind == FATSAT or on is not None):
        raise DataSetError("--lesion-free is for synthetic FLAIR heads; leave out --on and --kind")
    if kind == FATSAT:
        from pipelines.training.fatsat.phantoms import phantom_cases as orbit_cases

        orbit_cases(folder, count, seed, data, print_line)
        return
    from pipelines.training.synthetic.phantom_sets import painted_phantoms, phantom_cases

    if on is not None:
        painted_phantoms(folder, count, seed, on, print_line)
        return
    phantom_cases(folder, count, seed, data, print_line, lesion_free=lesion_free)


def import_nifti(
    data: IndexOption,
    folder: Annotated[Path, typer.Option("--out", help="Where the data set goes.")],
) -> None:
    """Turn raw FLAIR scans in NIfTI into a data set: find each brain, take out the bias field."""
    from pipelines.training.data_sets.extraction import import_nifti as import_raw

    names = import_raw(data, folder, print_line)
    print_line(f"{len(names)} cases in {folder}; look at the brain masks before you train on them")


def pseudo_label(
    data: IndexOption,
    folder: Annotated[Path, typer.Option("--out", help="Where the new data set goes.")],
    weights: Annotated[
        Path | None, typer.Option(help="Folder of the mask's weights; the installed ones by default.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw the lesions of cases without a mask, to learn from: what the network is sure of, the doubtful ignored."""
    from pipelines.training.flair.pseudo_labels import label_cases
    from pipelines.weights import FOLDER

    drawn = label_cases(data, folder, weights=weights or FOLDER, device=device, progress=print_line)
    print_line(f"{drawn} cases labelled by the network; look at them before you train on them")
