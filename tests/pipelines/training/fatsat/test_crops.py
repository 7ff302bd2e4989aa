import numpy as np
import pytest

from pipelines.errors import DataSetError
from pipelines.training.fatsat.crops import (
    NEIGHBOURS,
    KnownEye,
    at_place,
    augmented,
    centred,
    cut,
    joined,
    load,
)
from pipelines.types import Volume


def test_shifted_crops_are_the_neighbours_of_the_published_one():
    wide = np.random.default_rng(0).standard_normal((13, 33, 42)).astype(np.float16)
    assert len(set(NEIGHBOURS)) == 8
    centre, down = at_place(wide), at_place(wide, (1, 0))
    assert centre.shape == (13, 31, 40)
    inner = wide[:, 1:32, 1:41].astype(np.float32)
    assert np.allclose(centre, (inner - inner.mean()) / inner.std(), atol=1e-5)
    assert np.corrcoef(centre[:, 1:].ravel(), down[:, :-1].ravel())[0, 1] > 0.999
    nasal = at_place(wide, (0, 1))
    assert np.corrcoef(centre[..., 1:].ravel(), nasal[..., :-1].ravel())[0, 1] > 0.999


def test_each_epoch_draws_place_and_noise_anew():
    wide = np.random.default_rng(0).standard_normal((13, 33, 42)).astype(np.float16)
    rng = np.random.default_rng(1)
    drawn = [augmented(wide, rng) for _ in range(60)]
    places = [at_place(wide, place) for place in ((0, 0), *NEIGHBOURS)]
    nearest = [int(np.argmin([np.abs(one - place).mean() for place in places])) for one in drawn]
    assert set(nearest) == set(range(9))
    noise = np.array([np.std(one - places[n]) for one, n in zip(drawn, nearest, strict=True)])
    noisy = noise > 1e-3
    assert 15 < noisy.sum() < 45
    assert noise[noisy] == pytest.approx(0.05, abs=0.005)


def test_eyes_are_cut_with_what_is_known_of_them():
    affine = np.array([[0.5, 0, 0, -60], [0, 0, 3.0, -18], [0, -0.5, 0, 30], [0, 0, 0, 1.0]])
    volume = Volume(np.random.default_rng(0).random((20, 120, 240), np.float32), affine)
    back = np.array([(0, y, 0) for y in np.arange(0, 24, 0.5)])
    known = [
        KnownEye("right", (-28.0, 0.0, 0.0), np.add(back, (-28, 0, 0)), (0.0, 0.0, 0.0), 1, 1.4, 2.0),
        KnownEye("left", (28.0, 0.0, 0.0), np.add(back, (28, 0, 0)), (0.0, 0.0, 0.0), 0),
    ]
    eyes = cut(volume, known, case="c", patient="p", scanner="A")
    assert eyes.crops["published"].shape == eyes.crops["along-nerve"].shape == (2, 13, 33, 42)
    assert eyes.labels.tolist() == [1, 0]
    assert eyes.sides.tolist() == ["right", "left"]
    assert eyes.contrasts[0] == np.float32(1.4)
    assert np.isnan(eyes.errors_mm[1])
    # The right eye's nose is to the higher columns, the left eye is mirrored.
    right = volume.array[4:17, 44:77, 48:90]
    left = volume.array[4:17, 44:77, 151:193][..., ::-1]
    for number, native in enumerate((right, left)):
        assert np.allclose(
            eyes.crops["published"][number], (native - native.mean()) / native.std(), atol=2e-3
        )


def test_eyes_come_back_from_disk(tmp_path, made):
    eyes = made(6, 3)
    eyes.save(tmp_path / "eyes.npz")
    back = load(tmp_path / "eyes.npz")
    for name in ("labels", "patients", "scanners", "cases", "sides", "contrasts", "errors_mm"):
        assert np.array_equal(getattr(back, name), getattr(eyes, name)), name
    assert np.array_equal(back.crops["along-nerve"], eyes.crops["along-nerve"])
    twice = joined([back, eyes.take(eyes.labels == 1)])
    assert len(twice) == 8
    assert centred(twice, "published").shape == (8, 13, 31, 40)


def test_damaged_file_and_no_eye_are_named(tmp_path, made):
    (tmp_path / "eyes.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataSetError, match=r"eyes\.npz cannot be read"):
        load(tmp_path / "eyes.npz")
    with pytest.raises(DataSetError, match="no eye"):
        joined([made(3, 3).take(np.zeros(3, bool))])
