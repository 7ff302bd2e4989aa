"""The registry says what is installed without loading torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import registry, weights
from pipelines.errors import PipelineError, WeightsError
from pipelines.flair import settings


def test_importing_the_registry_loads_no_torch() -> None:
    code = "import sys, pipelines.registry; sys.exit('torch' in sys.modules or 'SimpleITK' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def write_card(folder: Path, name: str, digest: str) -> None:
    card = {
        "name": name,
        "version": "1",
        "digest": digest,
        "device_uid": "2.25.1",
        "trained_on": "synthetic",
        "purpose": "Lesions on FLAIR",
    }
    (folder / f"{name}.json").write_text(json.dumps(card))


def test_flair_is_installed_with_its_settings() -> None:
    info = registry.installed()
    assert info["flair"].default_settings == {"threshold": 0.5, "members": 2, "flips": True}
    assert info["flair"].weights_digest == settings.weights_digest()


def test_digest_changes_with_any_of_the_weights_and_with_no_others(tmp_path: Path) -> None:
    write_card(tmp_path, "joint", "ab12")
    digests = [settings.weights_digest(tmp_path)]
    others = (("nnunet", "cd"), ("nnunet-thick", "ef"), ("five-slices", "01"), ("lesion-pattern", "02"))
    for name, digest in (*others, ("joint", "ab13")):
        write_card(tmp_path, name, digest)
        digests.append(settings.weights_digest(tmp_path))
    assert len(set(digests)) == 6
    write_card(tmp_path, "fatsat", "99")
    assert settings.weights_digest(tmp_path) == digests[-1]


def test_digest_changes_with_the_temperature_that_a_card_states(tmp_path: Path) -> None:
    write_card(tmp_path, "joint", "ab12")
    before = settings.weights_digest(tmp_path)
    path = tmp_path / "joint.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "temperature": 1.7}))
    fitted = settings.weights_digest(tmp_path)
    path.write_text(json.dumps({**card, "figures": {"Dice": 0.5}}))
    assert fitted != before == settings.weights_digest(tmp_path)


def test_pipeline_without_the_joint_networks_card_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no model card"):
        settings.weights_digest(tmp_path)


def test_fatsat_without_weights_is_not_installed_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    assert set(registry.installed()) == {"flair"}
    with pytest.raises(PipelineError, match='no pipeline "fatsat" installed; there is: flair'):
        registry.load("fatsat", "cpu")
