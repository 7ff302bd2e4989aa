import numpy as np

from pipelines.training.fatsat.crops import augmented
from pipelines.training.fatsat.looks import other_look


def crop():
    """A bright ball beside a small spot, with a little noise."""
    _, j, i = np.indices((13, 33, 42))
    values = 2.0 * ((i - 5) ** 2 + (j - 16) ** 2 < 100) + 1.0 * ((i - 30) ** 2 + (j - 16) ** 2 < 9)
    return (values + 0.02 * np.random.default_rng(0).standard_normal(values.shape)).astype(np.float32)


def test_looks_differ_and_keep_what_is_where():
    rng = np.random.default_rng(1)
    looks = [other_look(crop(), rng) for _ in range(40)]
    unchanged = [np.array_equal(look, crop()) for look in looks]
    assert 2 < sum(unchanged) < 20
    for look in looks:
        assert look.dtype == np.float32
        assert look.shape == crop().shape
        assert np.isfinite(look).all()
        assert np.corrcoef(look.ravel(), crop().ravel())[0, 1] > 0.85
    edges = [np.abs(np.diff(look, axis=2)).max() / np.ptp(look) for look in looks]
    assert max(edges) > 1.3 * min(edges), "some are softer"
    spots = [
        (look[:, 14:19, 28:33].mean() - look[:, :, 36:].mean())
        / (look[:, 14:19, :8].mean() - look[:, :, 36:].mean())
        for look in looks
    ]
    assert max(spots) - min(spots) > 0.15, "some have another contrast"


def test_dark_core_of_a_nerve_fills_up_in_some_looks():
    _, j, i = np.indices((13, 33, 42))
    away = np.hypot(j - 16, i - 20)
    ring = ((away > 3) & (away < 6)).astype(np.float32)
    looks = [other_look(ring, np.random.default_rng(seed)) for seed in range(60)]
    cores = [look[:, 16, 20].mean() / look[:, 16, 15:17].mean() for look in looks]
    assert min(cores) < 0.1
    assert max(cores) > 0.3


def test_empty_crop_stays_empty():
    assert not other_look(np.zeros((13, 33, 42), np.float32), np.random.default_rng(0)).any()


def test_data_sets_keep_their_looks():
    wide = crop().astype(np.float16)
    plain = [augmented(wide, np.random.default_rng(seed)) for seed in range(20)]
    varied = [augmented(wide, np.random.default_rng(seed), other_looks=True) for seed in range(20)]
    centre = [np.corrcoef(one.ravel(), plain[0].ravel())[0, 1] for one in plain]
    assert min(centre) > 0.8
    assert np.std([np.abs(np.diff(one, axis=2)).max() for one in varied]) > 2 * np.std(
        [np.abs(np.diff(one, axis=2)).max() for one in plain]
    )
