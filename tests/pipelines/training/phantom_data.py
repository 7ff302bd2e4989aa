"""Three synthetic cases as a data set, of MS, of NMOSD and of MS, made once for all tests."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.training.synthetic.phantom_sets import phantom_cases
from tests.kept import kept


def phantom_data(folder: Path, count: int = 3) -> tuple[list[Path], list[str]]:
    """Write the first cases into a folder, and return their FLAIR files and what was told of each."""
    files, written, lines = kept(made)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    index = files["index.csv"].decode().splitlines()
    (folder / "index.csv").write_text("\n".join(index[: 1 + count]) + "\n")
    return [folder / name for name in written[:count]], lines[:count]


def made() -> tuple[dict[str, bytes], list[str], list[str]]:
    lines: list[str] = []
    with TemporaryDirectory() as folder:
        written = phantom_cases(Path(folder), 3, seed=3, progress=lines.append)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return files, [path.name for path in written], lines
