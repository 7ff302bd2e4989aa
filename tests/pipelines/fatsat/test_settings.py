import json

import pytest

from pipelines.errors import PipelineError
from pipelines.fatsat.settings import (
    crop_used,
    default_settings,
    settings_of,
    weights_digest,
    weights_used,
)


def test_defaults_are_plain_json():
    assert json.loads(json.dumps(default_settings())) == {
        "members": 32,
        "threshold": None,
        "crop": None,
        "points": None,
    }


def test_given_settings_replace_the_defaults():
    found = settings_of({"members": 8, "threshold": 0.4, "points": {"left": [30, -60.5, 2]}})
    assert (found.members, found.threshold, found.crop) == (8, 0.4, None)
    assert found.points == {"left": (30.0, -60.5, 2.0)}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"flips": True}, 'unknown setting "flips" of the fatsat pipeline'),
        ({"members": 0}, "members"),
        ({"members": True}, "members"),
        ({"threshold": 1.0}, "threshold"),
        ({"threshold": "0.5"}, "threshold"),
        ({"crop": "wide"}, "crop of the fatsat pipeline must be published or along-nerve"),
        ({"points": {}}, "points"),
        ({"points": {"Left": [1, 2, 3]}}, "'Left' is no side"),
        ({"points": {"left": [1, 2]}}, "left has"),
        ({"points": {"right": [1, 2, float("nan")]}}, "right has"),
    ],
)
def test_wrong_settings_are_named(given, said):
    with pytest.raises(PipelineError, match=said):
        settings_of(given)


def card(folder, name, **more):
    told = {"name": name, "version": "1", "digest": "ab", "device_uid": "2.25.1", "trained_on": "synthetic"}
    folder.joinpath(f"{name}.json").write_text(json.dumps({**told, "purpose": "p", **more}))


def test_digest_changes_with_the_threshold_and_with_another_ensemble(tmp_path):
    card(tmp_path, "fatsat", threshold=0.5)
    assert weights_used(tmp_path) == ("fatsat",)
    first = weights_digest(tmp_path)
    card(tmp_path, "fatsat", threshold=0.6)
    second = weights_digest(tmp_path)
    card(tmp_path, "fatsat-along-nerve")
    assert weights_used(tmp_path) == ("fatsat", "fatsat-along-nerve")
    assert len({first, second, weights_digest(tmp_path)}) == 3


def test_networks_that_saw_patients_go_before_those_that_did_not(tmp_path):
    card(tmp_path, "fatsat", trained_on="real")
    card(tmp_path, "fatsat-along-nerve")
    assert crop_used(None, tmp_path) == "published"
    card(tmp_path, "fatsat-along-nerve", trained_on="real and synthetic")
    assert crop_used(None, tmp_path) == "along-nerve"


def test_crop_along_the_nerve_is_used_where_its_networks_are(tmp_path):
    card(tmp_path, "fatsat")
    assert crop_used(None, tmp_path) == "published"
    card(tmp_path, "fatsat-along-nerve")
    assert crop_used(None, tmp_path) == "along-nerve"
    assert crop_used("published", tmp_path) == "published"
