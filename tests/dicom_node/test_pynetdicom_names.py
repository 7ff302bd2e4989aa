"""The private names of pynetdicom that the node uses: what a new version of it must be looked at for.

pynetdicom is pinned to its patch releases (``~=``) for their sake.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pynetdicom
import pytest
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket, ThreadedAssociationServer

ROOT = Path(__file__).parents[2]


class Use(NamedTuple):
    """One private name, the class or module of pynetdicom that has it, and what a module of ours needs it for."""

    module: str
    owner: Any
    name: str
    purpose: str


USES = [
    Use("receive/connection.py", Association, "_dul_ready", "set by hand: no thread of the DUL does it"),
    Use("receive/connection.py", Association, "_kill", "ends the reactor"),
    Use("receive/connection.py", Association, "_run_reactor", "overridden: each step waits for the peer"),
    Use("receive/connection.py", Association, "_serve_request", "answers every service but C-STORE"),
    Use("receive/connection.py", DULServiceProvider, "_decode_pdu", "decodes every PDU but P-DATA"),
    Use("receive/connection.py", DULServiceProvider, "_kill_thread", "says that the connection is over"),
    Use(
        "receive/connection.py", DULServiceProvider, "_process_recv_primitive", "makes what is sent an event"
    ),
    Use("receive/connection.py", DULServiceProvider, "_recv_pdu", "where the state machine takes a PDU from"),
    Use("receive/messages.py", Association, "_accepted_cx", "accepted contexts by ID, without sorting them"),
    Use("receive/server.py", AE, "_servers", "lets AE.shutdown() end our server"),
    Use("receive/server.py", Association, "_server", "set as pynetdicom's own handler does"),
    Use("receive/server.py", ThreadedAssociationServer, "_handlers", "bound to each association"),
    Use("receive/server.py", pynetdicom, "_config", "the module of settings"),
    Use("receive/server.py", _config, "LOG_HANDLER_LEVEL", "no logging of identifiers of patients"),
    Use("deliver/c_store.py", pynetdicom, "_config", "the module of settings"),
    Use("deliver/c_store.py", _config, "STORE_SEND_CHUNKED_DATASET", "files are sent without being decoded"),
    Use("deliver/association.py", AE, "_create_socket", "overridden: a socket that keeps why it failed"),
    Use("deliver/association.py", Association, "_reactor_checkpoint", "replaced by a ReactorPause"),
    Use("deliver/association.py", AssociationSocket, "_is_connected", "tells whether connecting failed"),
    Use(
        "deliver/association.py", AssociationSocket, "_shutdown_socket", "overridden: keeps the error, closes"
    ),
    Use("deliver/association.py", DULServiceProvider, "_run_loop_delay", "the sleep between two looks"),
]


@pytest.fixture(scope="module")
def made() -> Iterator[dict[Any, Any]]:
    """One of each owner: many names are there after construction only."""
    ae = AE()
    ae.add_supported_context("1.2.840.10008.1.1")
    assoc = Association(ae, "acceptor")
    server = ae.start_server(("127.0.0.1", 0), block=False)
    with socket.socket() as connection:
        yield {
            AE: ae,
            Association: assoc,
            DULServiceProvider: assoc.dul,
            AssociationSocket: AssociationSocket(assoc, client_socket=connection),
            ThreadedAssociationServer: server,
            pynetdicom: pynetdicom,
            _config: _config,
        }
    server.shutdown()


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.module}:{use.name}")
def test_name_is_in_the_installed_version(use: Use, made: dict[Any, Any]) -> None:
    assert hasattr(made[use.owner], use.name), f"pynetdicom {pynetdicom.__version__}: {use.purpose}"


@pytest.mark.slow
def test_no_other_private_name_is_used() -> None:
    used = {(module, name) for module, tree in modules() for name in private_names(module, tree)}
    assert used == {(use.module, use.name) for use in USES}


def test_only_patch_releases_of_the_version_that_was_looked_at_are_installed() -> None:
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert [one for one in requirements if one.startswith("pynetdicom")] == ["pynetdicom~=3.0.4"]


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the node that imports pynetdicom, by its place; no other package may (lint-imports)."""
    for path in sorted((ROOT / "dicom_node").rglob("*.py")):
        tree = ast.parse(path.read_text())
        if any(imported(node) for node in ast.walk(tree)):
            yield str(path.relative_to(ROOT / "dicom_node")), tree


def imported(node: ast.AST) -> list[str]:
    """Dotted names that a statement imports of pynetdicom."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        names = []
    return [name for name in names if name.split(".")[0] == "pynetdicom"]


def private_names(module: str, tree: ast.Module) -> Iterator[str]:
    """Private names that a module takes from pynetdicom."""
    private_modules = set()
    inherited = {}  # of each class with a base of pynetdicom's: the private names that it shares with its base
    ours = importlib.import_module(f"dicom_node.{module.removesuffix('.py').replace('/', '.')}")
    for node in ast.walk(tree):
        for name in imported(node):
            private_modules |= {part for part in name.split(".") if is_private(part)}
        if isinstance(node, ast.ClassDef):
            of_base = set().union(*(own_names(base) for base in getattr(ours, node.name).__mro__))
            inherited.update(dict.fromkeys(ast.walk(node), of_base))
    yield from private_modules
    for node in ast.walk(tree):
        of_base = inherited.get(node, set())
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in private_modules:
                yield node.attr
                continue
            if node.value.id in {"self", "cls"}:
                if node.attr in of_base:
                    yield node.attr
                continue
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_super(node.value):
            yield node.attr
        elif isinstance(node, (ast.FunctionDef, ast.AnnAssign, ast.Assign)):
            yield from {name for name in bound(node) if name in of_base}


def own_names(kind: type) -> set[str]:
    """Private names of a class of pynetdicom: of its body, and of what its methods set; none of another's."""
    if kind.__module__.split(".")[0] != "pynetdicom":
        return set()
    tree = ast.parse(inspect.getsource(kind))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_self(node.value)}
    return {name for name in names | set(vars(kind)) if is_private(name)}


def bound(node: ast.FunctionDef | ast.AnnAssign | ast.Assign) -> set[str]:
    """Plain names that a statement binds."""
    if isinstance(node, ast.FunctionDef):
        return {node.name}
    targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
    return {target.id for target in targets if isinstance(target, ast.Name)}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def is_super(node: ast.expr) -> bool:
    """Whether it is ``super()``, whose names are those of an overridden method."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
