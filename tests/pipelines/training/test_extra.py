"""The node runs without the packages of the extra ``train``, and a command that needs one says how to install it."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.errors import PipelineError
from pipelines.training.cli import models
from pipelines.training.extra import package

WITHOUT = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("matplotlib", "sklearn", "einops"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for root in ("dicom_node", "worker", "pipelines"):
    for found in pkgutil.walk_packages(importlib.import_module(root).__path__, f"{root}."):
        if not found.name.startswith("pipelines.training.") and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
from typer.testing import CliRunner
from dicom_node.cli import app
for arguments in (["models", "list"], ["models", "list", "--networks"], ["models", "phantom", "--help"]):
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 0, said.exception
"""


@pytest.mark.slow
def test_node_worker_pipelines_and_list_of_models_run_without_the_packages_of_training() -> None:
    said = subprocess.run([sys.executable, "-c", WITHOUT], check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("name", ["nnunet", "lesion-pattern", "fatsat"])
@pytest.mark.parametrize("missing", ["matplotlib", "sklearn"])
def test_training_says_which_extra_to_install_before_it_begins(
    name: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    said = CliRunner().invoke(models, ["train", name, "--out", str(tmp_path)])
    assert isinstance(said.exception, PipelineError)
    assert str(said.exception) == (
        f"trainings and their scores need the package {missing}, which is not installed: "
        'pip install "dicom-node[train]"'
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["nnunet", "lesion-pattern", "flair", "fatsat"])
def test_evaluation_says_which_extra_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    said = CliRunner().invoke(models, ["evaluate", name, "--data", str(tmp_path)])
    assert isinstance(said.exception, PipelineError)
    assert 'pip install "dicom-node[train]"' in str(said.exception)


def test_what_a_package_of_training_lacks_itself_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        package("broken")
