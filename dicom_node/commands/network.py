"""``send`` and ``echo``: the node's own DICOM, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.commands.console import PathsArgument, err, out
from dicom_node.commands.files import files_in
from dicom_node.errors import AddressError

if TYPE_CHECKING:
    from dicom_node.deliver.address import Address

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

    from dicom_node.deliver.c_store import send_files

    address = _peer(to, tls, tls_ca, tls_cert, tls_key, tls_name)
    files = files_in(paths)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(f"to {address}", total=len(files))
        results = send_files(address, files, calling, progress=lambda _: progress.advance(task))
    refused = [result for result in results if not result.outcome.stored]
    for result in refused[:20]:
        reason = result.reason.removeprefix(f"{result.path}: ").removeprefix(f"{result.path.name}: ")
        err.print(f"{result.path}: {reason}", style="red")
    out.print(f"{len(results) - len(refused)} of {len(results)} objects stored by {address}")
    raise typer.Exit(1 if refused else 0)


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
    from dicom_node.deliver.c_echo import echo as c_echo

    address = _peer(peer, tls, tls_ca, tls_cert, tls_key, tls_name)
    out.print(f"{address} answers in {c_echo(address, calling) * 1000:.0f} ms")


def _peer(
    text: str, tls: bool, ca: Path | None, certificate: Path | None, key: Path | None, name: str
) -> Address:
    """Return the address that a person gave, and how to speak to it."""
    from dicom_node.deliver.address import Address
    from dicom_node.tls import ClientTls

    files = ClientTls(ca, certificate, key, name) if tls or ca or certificate or key or name else None
    return Address.parse(text, files)
