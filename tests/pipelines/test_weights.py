import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines import weights
from pipelines.errors import WeightsError
from pipelines.flair.networks import nnunet
from pipelines.weights import (
    FOLDER,
    LARGEST_BYTES,
    SHIPPED_BYTES,
    card,
    card_details,
    installed,
    load_weights,
    save_weights,
    verify,
)

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
    with pytest.raises(WeightsError, match=r"no weight file .*toy\.safetensors; name another") as caught:
        load_weights("toy", folder)
    assert "\n" not in str(caught.value)


def test_missing_weight_file_of_the_installation_is_reinstalled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "FOLDER", folder)
    (folder / "toy.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no weight file .*toy\.safetensors; reinstall dicom-node"):
        load_weights("toy", folder)


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


@pytest.fixture
def sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, torch.Tensor]]:
    monkeypatch.setattr("pipelines.weights.LARGEST_BYTES", 4096)
    state = {f"layer{n}": torch.full((600,), float(n)) for n in range(5)}  # 1200 bytes each, two to a file
    save_weights("wide", state, DETAILS, "", tmp_path)
    return tmp_path, state


def test_many_parameters_lie_in_several_files_under_the_limit(
    sharded: tuple[Path, dict[str, torch.Tensor]],
) -> None:
    folder, state = sharded
    files = sorted(folder.glob("*.safetensors"))
    assert [f.name for f in files] == [f"wide-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    assert max(f.stat().st_size for f in files) <= 4096
    assert card("wide", folder).digest == hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    back, _ = load_weights("wide", folder)
    assert sorted(back) == sorted(state)
    assert all(torch.equal(back[key], state[key]) for key in state)
    assert verify(folder) == f"wide 1.2.3 ({card('wide', folder).digest[:12]})"


def test_each_shard_is_a_safetensors_file_of_its_own(sharded: tuple[Path, dict[str, torch.Tensor]]) -> None:
    folder, _ = sharded
    names = [sorted(load_file(f)) for f in sorted(folder.glob("*.safetensors"))]
    assert names == [["layer0", "layer1"], ["layer2", "layer3"], ["layer4"]]


def test_missing_shard_is_named(sharded: tuple[Path, dict[str, torch.Tensor]]) -> None:
    folder, _ = sharded
    (folder / "wide-00002-of-00003.safetensors").unlink()
    for check in (verify, lambda where: load_weights("wide", where)):
        with pytest.raises(
            WeightsError, match=r"no weight file .*wide-00002-of-00003\.safetensors; name another"
        ):
            check(folder)


def test_changed_shard_is_refused(sharded: tuple[Path, dict[str, torch.Tensor]]) -> None:
    folder, _ = sharded
    path = folder / "wide-00003-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(WeightsError, match=r"one of the weight files .* is not what its card says"):
        load_weights("wide", folder)


def test_exchanged_shards_are_refused(sharded: tuple[Path, dict[str, torch.Tensor]]) -> None:
    folder, _ = sharded
    first, second = (folder / f"wide-0000{n}-of-00003.safetensors" for n in (1, 2))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(WeightsError, match="is not what its card says"):
        load_weights("wide", folder)


def test_smaller_network_of_the_same_name_leaves_no_old_shard(
    sharded: tuple[Path, dict[str, torch.Tensor]],
) -> None:
    folder, _ = sharded
    save_weights("wide-1", {"w": torch.ones(2)}, DETAILS, "", folder)
    save_weights("wide", {"w": torch.ones(1)}, DETAILS, "", folder)
    assert sorted(f.name for f in folder.glob("*.safetensors")) == ["wide-1.safetensors", "wide.safetensors"]
    assert load_weights("wide", folder)[0]["w"].tolist() == [1.0]


def test_card_with_a_senseless_number_of_shards_is_refused(folder: Path) -> None:
    details = json.loads((folder / "toy.json").read_text())
    (folder / "toy.json").write_text(json.dumps({**details, "shards": "two"}))
    with pytest.raises(WeightsError, match="states 'two' shards"):
        load_weights("toy", folder)


def test_parameter_that_a_network_uses_twice_is_stored_once(tmp_path: Path) -> None:
    w = torch.arange(1000.0)
    save_weights("twice", {"a.w": w, "b.w": w, "c.w": w + 1}, DETAILS, "", tmp_path)
    assert (tmp_path / "twice.safetensors").stat().st_size < 2 * 2000 + 500
    state, _ = load_weights("twice", tmp_path)
    assert sorted(state) == ["a.w", "b.w", "c.w"]
    assert torch.equal(state["b.w"], w)
    assert torch.equal(state["c.w"], w + 1)


def test_counters_stay_whole_numbers(tmp_path: Path) -> None:
    save_weights("norm", {"num_batches_tracked": torch.tensor(100_001)}, DETAILS, "", tmp_path)
    assert load_weights("norm", tmp_path)[0]["num_batches_tracked"].item() == 100_001


def test_parameters_too_large_for_half_precision_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="w of big is not finite in half precision"):
        save_weights("big", {"w": torch.tensor([1e6])}, DETAILS, "", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_comparison_network_comes_back_as_it_was(tmp_path: Path) -> None:
    network = nnunet(small=True).eval()
    network.half().float()  # what half precision storage keeps
    save_weights("small", network.state_dict(), DETAILS, "", tmp_path)
    parameters = sum(p.numel() for p in network.parameters())
    assert (tmp_path / "small.safetensors").stat().st_size < 2 * parameters + 40_000
    again = nnunet(small=True).eval()
    again.load_state_dict(load_weights("small", tmp_path)[0])
    volume = torch.randn(1, 1, 32, 32, 32)
    assert torch.equal(again(volume), network(volume))


def test_shipped_weights_keep_the_package_small() -> None:
    sizes = [path.stat().st_size for path in FOLDER.glob("*.safetensors")]
    assert 0 < sum(sizes) < SHIPPED_BYTES
    assert max(sizes) <= LARGEST_BYTES


def test_installed_weights_are_those_of_their_cards() -> None:
    digests = installed()
    assert "joint" in digests
    for name, digest in digests.items():
        assert load_weights(name)[1].digest == digest


def test_shipped_card_says_that_its_classes_are_synthetic_and_not_clinical() -> None:
    details = card_details("joint")
    assert details["trained_on"] == "real and synthetic"
    assert card("joint").classes_trained_on == "synthetic"
    assert any("no clinical accuracy" in line for line in details["limitations"])
    headings = [heading.split()[0] for heading in details["figures"]]
    assert headings == ["real", "synthetic", "synthetic", "synthetic", "real"]
    assert "no clinical accuracy known" in (FOLDER / "joint.md").read_text()


def test_cards_are_read_without_torch() -> None:
    code = "import sys; import pipelines.weights as w; w.card('joint'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_card_may_say_between_which_probabilities_it_is_undecided(tmp_path: Path) -> None:
    details = json.loads((FOLDER / "joint.json").read_text())
    (tmp_path / "joint.json").write_text(json.dumps({**details, "undecided": [0.3, 0.7]}))
    assert card("joint", tmp_path).undecided == (0.3, 0.7)
    (tmp_path / "joint.json").write_text(json.dumps({**details, "undecided": None}))
    assert card("joint", tmp_path).undecided is None
