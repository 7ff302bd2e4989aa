import ast
from pathlib import Path

import dicom_node
from dicom_node.worklog.events import EVENTS


def test_what_the_node_writes_is_in_the_vocabulary():
    """An unknown event or figure would raise where it is written, perhaps first in a hospital."""
    written = {}
    for path in Path(dicom_node.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="write"), args=[ast.Constant(value=str(event)), *_]):
                    figures = {keyword.arg for keyword in node.keywords if keyword.arg} - {"id"}
                    written[f"{path.name}:{node.lineno}"] = (event, figures)
    wrong = {
        place: (event, sorted(figures))
        for place, (event, figures) in written.items()
        if event not in EVENTS or figures - EVENTS[event].figures
    }
    assert wrong == {}
    assert len(written) > 20
