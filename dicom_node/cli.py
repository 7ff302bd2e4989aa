"""The command line: ``dicom-node COMMAND``. Each command imports what it needs, so that the node starts without torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicom_node import __version__
from dicom_node.errors import AddressError, NodeError, NotFoundError, UnreadableError
from pipelines.errors import PipelineError
from pipelines.training.cli import models

if TYPE_CHECKING:
    from dicom_node.config import Settings
    from dicom_node.deliver.address import Address
    from dicom_node.series.headers import ImageHeader
    from dicom_node.worklog.records import Record

app = typer.Typer(
    name="dicom-node",
    help="A DICOM node that finds MS and NMOSD lesions on FLAIR, judges the optic nerves on FAT-SAT, and returns SEG, SR and "
    "heatmaps. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(models, name="models")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The TOML file; without it, the defaults and DICOM_NODE__SECTION__KEY hold.",
        envvar="DICOM_NODE_CONFIG",
    ),
]
PathsArgument = Annotated[list[Path], typer.Argument(help="DICOM files or folders of them.")]
PeerArgument = Annotated[str, typer.Argument(help="AET@HOST:PORT of the peer.")]


def _calling(title: str) -> str:
    from dicom_node.standard.titles import fault_of_title

    if reason := fault_of_title(title):
        raise AddressError(f"--from: {reason}")
    return title


CallingOption = Annotated[str, typer.Option("--from", help="Our own AE title.", callback=_calling)]
TlsOption = Annotated[bool, typer.Option("--tls", help="Speak TLS; any of the following says so too.")]
CaOption = Annotated[
    Path | None, typer.Option("--tls-ca", help="PEM file of who may have signed the peer's certificate.")
]
CertificateOption = Annotated[
    Path | None, typer.Option("--tls-cert", help="PEM file of our own certificate.")
]
KeyOption = Annotated[Path | None, typer.Option("--tls-key", help="PEM file of our own key.")]
TlsNameOption = Annotated[
    str, typer.Option("--tls-name", help="Name in the peer's certificate, if not its host.")
]
PointsOption = Annotated[
    Path | None,
    typer.Option(
        "--points",
        help="FAT-SAT: JSON file with where a person saw the optic nerve leave each globe, in mm of the patient (LPS): "
        '{"left": [x, y, z], "right": [x, y, z]}; either side may be left out.',
    ),
]
IdArgument = Annotated[
    str, typer.Argument(help="ID (a prefix will do), series or study UID, or accession number.")
]


@models.command("import-dicom")
def import_dicom(
    folder: Annotated[
        Path, typer.Argument(help="Folder with studies.csv and the DICOM studies that it names.")
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="Where the data set goes.")],
) -> None:
    """Turn DICOM studies, FLAIR series with SEG masks of lesions, into a data set to train on."""
    from worker.dataset import import_dicom as import_studies

    cases = import_studies(folder, out_folder, out.print)
    out.print(f"{len(cases)} cases in {out_folder / 'index.csv'}")


def main() -> None:
    """Run the command line; what a person can mend ends in one line and status 1."""
    os.umask(0o077)
    try:
        app()
    except (NodeError, PipelineError) as error:
        err.print(f"dicom-node: {error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:  # of the machine: rights, space, a file that is none
        place = f"{error.filename}: " if error.filename else ""
        err.print(f"dicom-node: {place}{error.strerror or type(error).__name__}", style="red", markup=False)
        sys.exit(1)


def _quieten_libraries() -> None:
    """Keep warnings of the DICOM libraries out of logs and journals: they quote element values, which may be a patient's."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    for name in ("pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _settings(config: Path | None) -> Settings:
    from dicom_node.config import load_settings

    return load_settings(config)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        out.print(f"dicom-node {__version__}")
        raise typer.Exit


@app.command()
def up(config: ConfigOption = None) -> None:
    """Run everything on one machine: the node, a worker, and the broker where it is embedded. Ctrl-C stops it."""
    _run_node(config, with_worker=True)


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the node alone; workers on this or other hosts join it with "dicom-node worker"."""
    _run_node(config, with_worker=False)


def _run_node(config: Path | None, *, with_worker: bool) -> None:
    from dicom_node.supervise import run, stop_on_signals
    from pipelines.registry import installed
    from pipelines.weights import verify

    _quieten_libraries()
    settings = _settings(config)
    verify()
    on_record = _print_record if sys.stdout.isatty() else None  # a service's journal stays short
    stop = stop_on_signals()
    run(
        settings,
        settings.configured(installed()),
        config=config,
        with_worker=with_worker,
        stop=stop,
        on_record=on_record,
    )


def _print_record(record: Record) -> None:
    style = {"warning": "yellow", "error": "red"}.get(record.level, "")
    out.print(record.line(), style=style, markup=False)


@app.command()
def worker(
    config: ConfigOption = None,
    queues: Annotated[
        str, typer.Option(help="Pipelines to run, separated by commas; all installed ones by default.")
    ] = "",
    parent: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Run a worker: it takes jobs from the broker and writes results into the spool."""
    from dicom_node.jobs.broker import read_url
    from pipelines.registry import installed
    from pipelines.weights import verify
    from worker.app import run_worker

    _quieten_libraries()
    settings = _settings(config)
    verify()
    names = tuple(name.strip() for name in queues.split(",") if name.strip()) or tuple(installed())
    unknown = sorted(set(names) - set(installed()))
    if unknown:
        raise NotFoundError(f"no pipeline {unknown[0]!r} installed; there are {', '.join(installed())}")
    url = (
        settings.broker.address if settings.broker.url != "embedded" else read_url(settings.spool / "broker")
    )
    status = run_worker(
        broker_url=url,
        spool=settings.spool,
        device=settings.worker.device,
        time_limit_s=settings.worker.time_limit_s,
        queues=names,
        parent=parent,
    )
    raise typer.Exit(status)


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep the scratch folder here.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which phantom.")] = 7,
) -> None:
    """Show the whole way on this machine: phantom studies go in over DICOM, results come back to a small PACS."""
    from dicom_node.demo import Demo, scratch_folder
    from dicom_node.demo_studies import Study
    from pipelines.phantoms.flair import flair_phantom
    from pipelines.phantoms.orbits import geometric_orbits
    from pipelines.registry import installed

    folder = scratch_folder(keep)
    head = flair_phantom(seed)
    studies = [Study("flair", "Phantom FLAIR from the MNI152 template", head.volume, head.lesions)]
    if "fatsat" in installed():
        orbits = geometric_orbits(seed, lesions=("right",), contrast=1.8)  # of 1.3 to 2: a plain lesion
        eye = orbits.eye("right")
        assert eye is not None, "nothing was asked to be missing"
        studies.append(
            Study("fatsat", "Phantom FAT-SAT orbits from geometry", orbits.volume, eye.lesion, side="right")
        )
    raise typer.Exit(0 if Demo(out, studies, folder, is_kept=keep is not None).run() else 1)


@app.command()
def send(
    paths: PathsArgument,
    to: Annotated[str, typer.Option("--to", help="AET@HOST:PORT of the receiver.")],
    calling: CallingOption = "DICOMNODE",
    tls: TlsOption = False,
    tls_ca: CaOption = None,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
    tls_name: TlsNameOption = "",
) -> None:
    """Send DICOM files or folders by C-STORE."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from dicom_node.deliver.scu import send_files

    address = _peer(to, tls, tls_ca, tls_cert, tls_key, tls_name)
    files = _files(paths)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(f"to {address}", total=len(files))
        results = send_files(address, files, calling, progress=lambda _: progress.advance(task))
    refused = [result for result in results if not result.outcome.stored]
    for result in refused[:20]:
        reason = result.reason.removeprefix(f"{result.path}: ").removeprefix(f"{result.path.name}: ")
        err.print(f"{result.path}: {reason}", style="red", markup=False)
    out.print(f"{len(results) - len(refused)} of {len(results)} objects stored by {address}")
    raise typer.Exit(1 if refused else 0)


@app.command()
def echo(
    peer: PeerArgument,
    calling: CallingOption = "DICOMNODE",
    tls: TlsOption = False,
    tls_ca: CaOption = None,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
    tls_name: TlsNameOption = "",
) -> None:
    """Ask a peer for C-ECHO."""
    from dicom_node.deliver.scu import echo as c_echo

    address = _peer(peer, tls, tls_ca, tls_cert, tls_key, tls_name)
    out.print(f"{address} answers in {c_echo(address, calling) * 1000:.0f} ms")


def _peer(
    text: str, tls: bool, ca: Path | None, certificate: Path | None, key: Path | None, name: str
) -> Address:
    """Return the address that a person gave, and how to speak to it."""
    from dicom_node.deliver.address import Address
    from dicom_node.deliver.tls import Tls

    files = Tls(ca, certificate, key, name) if tls or ca or certificate or key or name else None
    return Address.parse(text, files)


@app.command()
def route(paths: PathsArgument, config: ConfigOption = None) -> None:
    """Dry run: for each series the rule that matches, and why the others do not."""
    from dataclasses import replace

    from dicom_node.routing.explain import explain
    from dicom_node.routing.match import decide
    from dicom_node.routing.rules import built_in_rules
    from dicom_node.series.completeness import assess

    rules = list(_settings(config).route) or built_in_rules()
    series, unreadable = _series_on_disk(_files(paths))
    for by_file in series.values():
        headers = list(by_file.values())
        first = headers[0]
        assessment = assess(headers)
        number = "" if first.series_number is None else f"series {first.series_number}, "
        out.rule(
            f"{number}{len(headers)} images, {first.tags.get('SeriesDescription', 'no description')}",
            align="left",
        )
        out.print(
            f"geometry: {assessment.state}{f', {assessment.reason}' if assessment.reason else ''}",
            markup=False,
        )
        # headers that were exported without their pixels are judged as the images that they describe
        out.print(explain(decide([replace(header, is_image=True) for header in headers], rules)))
    for line in unreadable:
        err.print(line, style="red", markup=False)
    raise typer.Exit(1 if unreadable or not series else 0)


@app.command()
def analyse(
    path: Annotated[Path, typer.Argument(help="A folder, or a file, of one MR series.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Where the DICOM objects and PNG previews go.")],
    pipeline: Annotated[str, typer.Option(help="Run this pipeline whatever the rules say.")] = "",
    points: PointsOption = None,
    config: ConfigOption = None,
) -> None:
    """Run one series from disk through its pipeline to DICOM objects, without a network."""
    from dataclasses import replace

    from dicom_node.routing.match import decide
    from dicom_node.routing.rules import built_in_rules
    from pipelines.registry import installed, load
    from worker.offline import analyse_files

    settings = _settings(config)
    rules = list(settings.route) or built_in_rules()
    series, unreadable = _series_on_disk(_files([path]))
    wanted = {
        uid: pipeline or decide(list(headers.values()), rules).pipeline for uid, headers in series.items()
    }
    chosen = [uid for uid, name in wanted.items() if name]
    if len(chosen) != 1:
        if unreadable and not series:
            raise UnreadableError(unreadable[0])
        reason = f"{len(series)} series, {len(chosen)} of them for a pipeline"
        raise NotFoundError(
            f"{path}: {reason}; give one series that dicom-node route accepts, or --pipeline "
            f"{' or '.join(installed())}"
        )
    name = str(wanted[chosen[0]])
    if name not in installed():
        raise NotFoundError(f"no pipeline {name!r} installed; there are {', '.join(installed())}")
    info = settings.configured(installed())[name]
    given = _given(points)
    if set(given) - set(info.default_settings):
        raise NotFoundError(f"{path}: the pipeline {name} takes no --points")
    info = replace(info, default_settings={**info.default_settings, **given})
    for line in unreadable:
        err.print(line, style="yellow", markup=False)

    def tell(stage: str, seconds: float) -> None:
        out.print(f"  {stage:<12}{seconds:7.1f} s")

    manifest = analyse_files(
        sorted(series[chosen[0]]),
        load(name, settings.worker.device),
        info,
        out_folder,
        settings.results,
        tell,
    )
    out.print(f"{manifest.status}{f': {manifest.reason}' if manifest.reason else ''}", markup=False)
    figures = dict(manifest.figures)
    sides = figures.pop("sides", "")
    if sides:
        out.print(sides, markup=False)
    for site, said in figures.pop("sites", {}).items():
        figures |= {f"{site}: {key.replace('_', ' ')}": value for key, value in said.items()}
    for name, value in figures.pop("probability", {}).items():
        figures[f"probability of {name}"] = f"{value:.2f} (research use, see its training data below)"
    for key, value in figures.items():
        out.print(f"  {key:<72}{value}", markup=False)
    for warning in manifest.warnings:
        out.print(f"  {warning}", style="yellow", markup=False)
    for produced in sorted(out_folder.iterdir()):
        out.print(f"  {produced}", markup=False)
    raise typer.Exit(1 if manifest.status == "failed" else 0)


@app.command()
def worklog(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Lines of JSON.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Warnings and errors only.")] = False,
    series: Annotated[str, typer.Option("--series", help="One series or job: UID or ID.")] = "",
    last: Annotated[
        int | None, typer.Option("-n", "--last", min=0, help="Begin with the last N lines.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Read or follow the worklog."""
    from dicom_node.worklog.follow import records

    folder = _settings(config).node.data
    for record in records(folder, follow=follow, failed=failed, series=series or None, last=last):
        if json:
            typer.echo(record.json())
        else:
            _print_record(record)


@app.command()
def why(identifier: IdArgument, config: ConfigOption = None) -> None:
    """Tell the whole history of a series or job, and why it stands where it stands."""
    from dicom_node.jobs.why import why as explain_state

    for line, style in explain_state(_settings(config).node.data, identifier):
        out.print(line, style=style, markup=False)


def _steer(
    verb: str, identifier: str, config: Path | None, given: Mapping[str, object] | None = None
) -> None:
    from dicom_node.control import ask

    out.print(ask(_settings(config).node.data, verb, identifier, given), markup=False)


def _given(points: Path | None) -> dict[str, object]:
    """Return the settings that a person gives in a file, checked; nothing without a file."""
    import json

    from pipelines.fatsat.settings import points_of

    if points is None:
        return {}
    try:
        found = points_of(json.loads(points.read_text(encoding="utf-8")))
    except (OSError, ValueError, PipelineError) as error:
        raise UnreadableError(f"{points}: {error}") from error
    if not found:
        raise UnreadableError(f"{points}: no points in it")
    return {"points": {side: list(point) for side, point in found.items()}}


@app.command()
def retry(identifier: IdArgument, points: PointsOption = None, config: ConfigOption = None) -> None:
    """Deliver again what was not delivered; analyse a finished job again, as a new run; judge an ignored series again.

    With --points: analyse a FAT-SAT series again with these points, as a new job whose report replaces the last one.
    """
    _steer("retry", identifier, config, _given(points))


@app.command()
def hold(identifier: IdArgument, config: ConfigOption = None) -> None:
    """Keep a job that waits or runs from going on."""
    _steer("hold", identifier, config)


@app.command()
def release(identifier: IdArgument, config: ConfigOption = None) -> None:
    """Let a held job run, or analyse a held series as it is."""
    _steer("release", identifier, config)


@app.command()
def check(config: ConfigOption = None) -> None:
    """Check configuration, disk, broker, weights, device and destinations; status 1 when something is wrong."""
    from dicom_node.check import check_node
    from pipelines.device import describe_device
    from pipelines.registry import installed
    from pipelines.weights import verify

    settings = _settings(config)
    table = Table(box=None, pad_edge=False)
    for heading in ("", "what", "result"):
        table.add_column(heading, overflow="fold")
    wrong = 0

    def look(read: Callable[[], str]) -> Callable[[], str]:
        def translated() -> str:
            try:
                return read()
            except PipelineError as error:
                raise NodeError(str(error)) from error

        return translated

    extra = [
        ("pipelines", look(lambda: ", ".join(installed()))),
        ("weights", look(verify)),
        ("device", look(lambda: describe_device(settings.worker.device))),
    ]
    for verdict in check_node(settings, extra):
        wrong += not verdict.ok
        style = "green" if verdict.ok else "red"
        sign = Text("ok" if verdict.ok else "WRONG", style)
        table.add_row(sign, Text(verdict.what), Text(verdict.result))  # as it is: "[node] data" is no markup
    out.print(table)
    raise typer.Exit(1 if wrong else 0)


def _files(paths: list[Path]) -> list[Path]:
    """All files of the given files and folders, in a stable order."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(
                p
                for p in path.rglob("*")
                if p.is_file() and not p.name.startswith(".") and p.name != "DICOMDIR"
            )
        elif path.is_file():
            files.append(path)
        else:
            raise UnreadableError(f"{path}: no such file or folder")
    if not files:
        raise UnreadableError(f"{', '.join(map(str, paths))}: no files in it")
    return files


def _series_on_disk(files: list[Path]) -> tuple[dict[str, dict[Path, ImageHeader]], list[str]]:
    """Headers by series, and a line for each file that is not readable DICOM."""
    from dicom_node.series.headers import read_header

    series: dict[str, dict[Path, ImageHeader]] = {}
    unreadable: list[str] = []
    for file in files:
        try:
            header = read_header(file)
        except UnreadableError as error:
            unreadable.append(str(error))
            continue
        series.setdefault(header.series_uid, {})[file] = header
    return series, unreadable


if __name__ == "__main__":
    main()
