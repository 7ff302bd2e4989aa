import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipelines.errors import WeightsError
from pipelines.weights import card, installed, load_weights, save_weights

DETAILS = {
    "version": "1.2.3",
    "device_uid": "2.25.1",
    "trained_on": "synthetic",
    "purpose": "a test",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_weights("toy", {"w": torch.tensor([1.0, 0.5, -2.0])}, DETAILS, "sha256 {digest}\n", tmp_path)
    return tmp_path


def test_weights_come_back_in_single_precision_with_their_card(folder: Path) -> None:
    state, described = load_weights("toy", folder)
    assert state["w"].dtype == torch.float32
    assert state["w"].tolist() == [1.0, 0.5, -2.0]
    assert (described.name, described.version, described.trained_on) == ("toy", "1.2.3", "synthetic")
    assert len(described.digest) == 64


def test_card_for_people_states_the_digest(folder: Path) -> None:
    assert (folder / "toy.md").read_text() == f"sha256 {card('toy', folder).digest}\n"


def test_changed_weight_file_is_refused(folder: Path) -> None:
    path = folder / "toy.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not what its card says"):
        load_weights("toy", folder)


def test_missing_weight_file_is_one_clear_line(folder: Path) -> None:
    (folder / "toy.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no weight file .*toy\.safetensors; reinstall") as caught:
        load_weights("toy", folder)
    assert "\n" not in str(caught.value)


def test_unknown_name_lists_what_is_installed(folder: Path) -> None:
    with pytest.raises(WeightsError, match="installed: toy"):
        card("other", folder)


def test_card_without_a_digest_is_refused(folder: Path) -> None:
    details = json.loads((folder / "toy.json").read_text())
    del details["digest"]
    (folder / "toy.json").write_text(json.dumps(details))
    with pytest.raises(WeightsError, match="lacks digest"):
        card("toy", folder)


def test_weights_above_the_limit_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="more than 16777216"):
        save_weights("large", {"w": torch.zeros(9_000_000)}, DETAILS, "", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_installed_weights_are_those_of_their_cards() -> None:
    digests = installed()
    assert "joint" in digests
    for name, digest in digests.items():
        assert load_weights(name)[1].digest == digest


def test_shipped_card_says_that_it_is_synthetic_and_not_clinical() -> None:
    from pipelines.weights import FOLDER, card_details

    details = card_details("joint")
    assert details["trained_on"] == "synthetic"
    assert any("no clinical accuracy" in line for line in details["limitations"])
    assert set(details["figures"]) == {"real cases, never seen in training", "synthetic cases"}
    assert "no clinical accuracy known" in (FOLDER / "joint.md").read_text()


def test_cards_are_read_without_torch() -> None:
    code = "import sys; import pipelines.weights as w; w.card('joint'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
