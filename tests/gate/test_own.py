"""A data set's own gate, held against scipy's robust statistics; its files."""

import json
from pathlib import Path

import numpy as np
import pytest

from medfocus_pipeline.config import EfficientNetLiteConfig
from medfocus_pipeline.errors import DamagedError, DataError
from medfocus_pipeline.gate.own import LEAST, OwnGate
from medfocus_pipeline.gate.saved import (
    GateDescription,
    SavedGate,
    load_gate,
    read_gate,
    settings_of,
    write_gate,
)
from medfocus_pipeline.gate.zero_shot import ZeroShot
from medfocus_pipeline.model_record import Model
from tests.gate.clouds import cloud


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_an_image_is_out_at_a_modified_z_score_of_three_and_a_half() -> None:
    from scipy.spatial.distance import cdist
    from scipy.stats import median_abs_deviation

    train = cloud(60, seed=0)
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    distances = np.sort(cdist(unit, unit), axis=1)[:, 8]  # itself is the first
    z = 0.6745 * (distances - np.median(distances)) / median_abs_deviation(distances)
    found = OwnGate.of(train, rng()).score(train)
    np.testing.assert_allclose(found, 1 - z / 3.5, atol=0.02)


def test_strangers_among_the_images_do_not_make_themselves_usual() -> None:
    usual, strangers = cloud(40, seed=0, centre=4), cloud(6, seed=1, centre=-4)
    both = np.concatenate([usual, strangers])
    scores = OwnGate.of(both, rng()).score(both)
    assert (scores[40:] < 0).all()
    assert (scores[:40] >= 0).mean() > 0.9


def test_a_new_image_is_scored_as_if_it_had_been_there() -> None:
    usual, new = cloud(80, seed=0, centre=4), cloud(10, seed=1, centre=-4)
    gate = OwnGate.of(usual, rng())
    assert (gate.score(new) < 0).all()
    assert (gate.score(cloud(40, seed=2, centre=4)) >= 0).mean() > 0.9
    alone = [float(gate.score(row[None])[0]) for row in new]
    np.testing.assert_allclose(alone, gate.score(new), atol=1e-6)


def test_fewer_images_than_can_say_what_is_usual_are_refused() -> None:
    with pytest.raises(DataError, match=f"{LEAST - 1} images are too few.*expected {LEAST}"):
        OwnGate.of(cloud(LEAST - 1, seed=0), rng())


def test_a_set_of_copies_has_a_gate_that_lets_them_in() -> None:
    copies = np.repeat(cloud(1, seed=0), 20, axis=0)
    gate = OwnGate.of(copies, rng())
    assert (gate.score(copies) >= 0).all()
    assert (gate.score(-copies[:1]) < 0).all()


def saved(fitted: OwnGate | ZeroShot) -> SavedGate:
    described = GateDescription(
        encoder=EfficientNetLiteConfig(),
        model=Model(id="some", files={"weights": "0" * 64}),
        feature="levels",
        fit="squeeze",
        settings=settings_of(fitted, images=40, prompts="words"),
    )
    return SavedGate(described, fitted)


@pytest.mark.parametrize("kind", ["own", "zero_shot"])
def test_a_written_gate_says_the_same_when_it_is_read(tmp_path: Path, kind: str) -> None:
    fitted: OwnGate | ZeroShot = OwnGate.of(cloud(40, seed=0), rng())
    if kind == "zero_shot":
        texts = cloud(5, seed=3)
        fitted = ZeroShot(texts, ("MRI", "CT", "CT", "animals", "scenes"), 3, 0.01, "sum")
    written = write_gate(tmp_path, saved(fitted))
    again = read_gate(tmp_path)
    assert again is not None
    assert again.described == written.described
    assert again.described.key == written.described.key
    new = cloud(20, seed=5)
    np.testing.assert_array_equal(again.fitted.score(new), fitted.score(new))


def test_another_gate_has_another_key(tmp_path: Path) -> None:
    one = write_gate(tmp_path / "one", saved(OwnGate.of(cloud(40, seed=0), rng())))
    other = write_gate(tmp_path / "other", saved(OwnGate.of(cloud(40, seed=1), rng())))
    assert one.described.key != other.described.key


@pytest.mark.parametrize("fault", ["no arrays", "other arrays", "no settings", "a changed cut"])
def test_a_gate_that_is_not_whole_is_damaged(tmp_path: Path, fault: str) -> None:
    write_gate(tmp_path, saved(OwnGate.of(cloud(40, seed=0), rng())))
    arrays, described = tmp_path / "gate.safetensors", tmp_path / "gate.json"
    said = json.loads(described.read_text())
    if fault == "no arrays":
        arrays.unlink()
    elif fault == "other arrays":
        arrays.write_bytes(arrays.read_bytes()[:-8])
    elif fault == "no settings":
        del said["settings"]
        described.write_text(json.dumps(said))
    else:
        said["settings"]["reach"] = 9.0
        described.write_text(json.dumps(said))
    with pytest.raises(DamagedError):
        load_gate(tmp_path)
    assert read_gate(tmp_path) is None


def test_a_folder_without_a_gate_has_none(tmp_path: Path) -> None:
    assert read_gate(tmp_path) is None
