"""The places of the node that parse files: no file that was received is parsed in the node's own process."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "dicom_node"
ROOMS = (
    "intake",
    "jobs",
    "receive",
    "deliver",
    "node",
    "spool",
    "worklog",
    "routing",
    "config",
    "priors",
    "study",
    "cohort",
)
PARSERS = {
    "dcmread",
    "read_header",
    "read_received",
    "read_whole",
    "read_without_pixels",
    "same_content",
    "load_series",
    "load_sources",
    "build_results",
    "pixel_array",
    "read_file_meta_info",
}
ALLOWED = {
    "intake/received_file.py": "run by the parser process",
    "intake/duplicates.py": "run by the parser process",
    "intake/parser_process.py": "the parser process",
    "jobs/failure_objects.py": "a process of its own",
    "study/content.py": "for a process of its own",
    "study/objects.py": "for a process of its own",
    "deliver/payload.py": "the node's own results",
    "deliver/c_store.py": "the node's own results",
    "deliver/patient_check.py": "the node's own results",
    "jobs/former_identity.py": "the node's own results",
    "priors/examination.py": "the node's own results",
    "cohort/build.py": "the node's own results",
    "receive/commitment_provider.py": "file meta information, which is the node's own",
}


def names(path: Path) -> Iterator[str]:
    """Names that a module uses."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name


def test_files_are_parsed_where_they_may_be_and_nowhere_else() -> None:
    found = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if PARSERS.intersection(names(path))
    }
    assert found == {name for name in ALLOWED if (ROOT / name).exists()}


def test_processes_that_parse_are_imported_for_their_messages_only() -> None:
    study = [ROOT / "study" / f"{name}.py" for name in ("summariser", "state", "due")]
    for path in (
        *(ROOT / "node").glob("*.py"),
        *(ROOT / "jobs").glob("*.py"),
        ROOT / "intake" / "intake.py",
        *study,
    ):
        apart = {"answer_of", "failure_objects", "summary_process", "part_of", "build_summary"}
        assert not apart & set(names(path)), path
