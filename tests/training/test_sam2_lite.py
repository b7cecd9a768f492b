"""Training sam2-lite: cached features, steps that learn, and going on as if never stopped."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medfocus_pipeline import efficientnet
from medfocus_pipeline.config import Sam2Config
from medfocus_pipeline.errors import ConfigError, MedFocusError, StoreError, WeightsError
from medfocus_pipeline.files import sha256
from medfocus_pipeline.sam import sam2, sam2_lite
from medfocus_pipeline.sam.sam_pixels import normalised
from medfocus_pipeline.training import feature_cache, parallel, sam2_losses, sam2_prompts
from medfocus_pipeline.training.feature_cache import MASK_SIDE, FeatureCache
from medfocus_pipeline.training.loop import CHECKPOINT, RECIPE
from medfocus_pipeline.training.parallel import Team, team
from medfocus_pipeline.training.sam2_lite import Sam2LiteTraining, prepare, train
from medfocus_pipeline.training.sam2_model import initial_model
from medfocus_pipeline.training.sam2_run import COLUMNS, Sam2LiteSteps
from medfocus_pipeline.weights import FileHashes

pytest.importorskip("sam2", reason="the optional package sam2 is not installed")

SMALL = Sam2LiteTraining(
    phantoms=16, steps=4, batch_size=1, workers=1, warmup=1, log_every=2, save_every=2
)
WEIGHTS = sam2_lite.TRAINED.name


def nothing(_: int) -> None:
    """An `advance` that tells nobody."""


def changed(config: Sam2LiteTraining, **settings: Any) -> Sam2LiteTraining:
    return config.model_copy(update=settings)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training's folder after `prepare`; to be linked to, not changed."""
    folder = tmp_path_factory.mktemp("training")
    drawn: list[int] = []
    prepare(SMALL, folder, advance=drawn.append)
    assert sum(drawn) == SMALL.phantoms
    return folder


@pytest.fixture
def folder(features: Path, tmp_path: Path) -> Path:
    """A training's own folder, with the features that are there."""
    (tmp_path / "features").symlink_to(features / "features", target_is_directory=True)
    return tmp_path


@pytest.fixture(scope="module")
def model() -> Any:
    """With the trunk's own weights."""
    model = initial_model(SMALL.seed)
    trunk = efficientnet.find_weights(FileHashes())
    sam2_lite.load_trunk(model, trunk.paths[efficientnet.FILE])
    return model


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    return feature_cache.describe(SMALL.phantoms, seed=0, size=sam2_lite.IMAGE_SIZE, trunk="T")


@pytest.fixture
def cache(model: Any, recipe: dict[str, Any], features: Path, tmp_path: Path) -> FeatureCache:
    """The features as the training has them, in a copy that may be changed."""
    folder = tmp_path / "features"
    cache = feature_cache.open_cache(folder, model.image_encoder.trunk, recipe)
    for name in ("features", "masks", "counts"):
        (file,) = (features / "features").glob(f"{name}.*")
        array = getattr(cache, name)
        array[:] = np.fromfile(file, array.dtype).reshape(array.shape)
    return cache


def test_features_are_the_trunks_and_masks_the_phantoms(cache: FeatureCache, model: Any) -> None:
    import torch

    row = 1
    phantom = feature_cache.phantom(row, seed=0, size=sam2_lite.IMAGE_SIZE)
    with torch.inference_mode():
        pixels = normalised([phantom.image], side=sam2_lite.IMAGE_SIZE)
        expected = model.image_encoder.trunk(pixels)
    for found, level in zip(cache.levels(np.array([row])), expected, strict=True):
        assert found.shape == level.shape
        assert float((found - level).abs().mean()) < 0.1 * float(level.std())  # bfloat16
    masks = cache.parts(row)
    assert masks.shape[1:] == (MASK_SIDE, MASK_SIDE)
    assert 0 < len(masks) <= len(phantom.parts)
    assert np.isclose(masks[0].mean(), phantom.parts[0].mean(), rtol=0.1)


def test_only_phantoms_that_are_missing_are_drawn(
    cache: FeatureCache, model: Any, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [np.array(array) for array in (cache.features, cache.masks, cache.counts)]
    cache.counts[[2, 5]] = 0
    cache.features[[2, 5]] = 0
    drawn: list[int] = []
    real = feature_cache.phantom

    def phantom(row: int, **settings: int) -> Any:
        drawn.append(row)
        return real(row, **settings)

    monkeypatch.setattr(feature_cache, "phantom", phantom)
    feature_cache.fill(cache, model.image_encoder.trunk, recipe, advance=nothing)
    assert drawn == [2, 5]
    np.testing.assert_allclose(cache.features, whole[0], atol=0.02)
    np.testing.assert_array_equal(cache.masks, whole[1])
    np.testing.assert_array_equal(cache.counts, whole[2])


def test_features_of_other_phantoms_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"other phantoms \(seed, drawings changed\).*--work"):
        prepare(changed(SMALL, seed=1), folder, advance=nothing)
    monkeypatch.setattr(feature_cache, "_drawings", lambda *_: "drawn otherwise")
    with pytest.raises(ConfigError, match=r"other phantoms \(drawings changed\)"):
        prepare(SMALL, folder, advance=nothing)


def test_a_disk_without_room_is_noticed_before_anything_is_drawn(
    model: Any, recipe: dict[str, Any], tmp_path: Path
) -> None:
    huge = {**recipe, "phantoms": 10**10}
    with pytest.raises(StoreError, match=r"features take 4,014,080\.0 GB .*--work.*--phantoms"):
        feature_cache.open_cache(tmp_path, model.image_encoder.trunk, huge)


def test_a_phantom_without_parts_gives_targets_that_are_empty(cache: FeatureCache) -> None:
    cache.counts[:] = 1
    batch = sam2_losses.draw_batch(cache, 2, 64, np.random.default_rng(0))
    assert not batch.targets.any()
    assert batch.background.all()


def test_steps_lower_the_loss(cache: FeatureCache, tmp_path: Path) -> None:
    import torch

    config = changed(SMALL, steps=100, batch_size=2, learning_rate=2e-3, save_every=100)
    model = initial_model(0)
    run = Sam2LiteSteps(model, config, cache, {}, tmp_path, Team())
    fixed = sam2_losses.draw_batch(cache, 4, 64, np.random.default_rng(0))

    def loss() -> float:
        with torch.no_grad():
            return float(sam2_losses.losses(model, fixed, torch.Generator().manual_seed(0)).total)

    first = loss()
    while run.step < 8:
        run.advance()
    assert loss() < 0.85 * first


def test_a_training_that_is_stopped_goes_on_as_if_it_had_not_been(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    steps: list[int] = []
    weights = train(SMALL, folder, advance=steps.append)
    assert weights == folder / WEIGHTS
    assert steps == [0, 1, 1, 1, 1]

    stopped = tmp_path_factory.mktemp("stopped")
    (stopped / "features").symlink_to(folder / "features", target_is_directory=True)
    calls = iter(range(10))

    def advance(_: int) -> None:
        if next(calls) == 3:  # after the third step, a checkpoint having been made at the second
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SMALL, stopped, advance=advance)
    assert (stopped / WEIGHTS).is_file()
    steps.clear()
    train(SMALL, stopped, advance=steps.append)
    assert steps == [2, 1, 1]
    assert (stopped / WEIGHTS).read_bytes() == weights.read_bytes()
    assert (stopped / "log.csv").read_text() == (folder / "log.csv").read_text()

    with (folder / "log.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert [row[0] for row in rows] == ["2", "4"]
    assert all(row[COLUMNS.index("click_oracle")] for row in rows)

    config = Sam2Config(size="lite", checkpoint=weights)
    found = sam2.find_weights(config, FileHashes(), download=False)
    assert found is not None
    assert sam2.load_model(config, found).training is False

    with pytest.raises(ConfigError, match=r"other settings \(learning_rate changed\).*--work"):
        train(changed(SMALL, learning_rate=1e-3), folder, advance=nothing)
    train(changed(SMALL, save_every=1), folder, advance=nothing)

    (folder / "checkpoint.pt").write_bytes(b"\0")
    with pytest.raises(WeightsError, match=r"cannot be read .*delete it to train anew"):
        train(SMALL, folder, advance=nothing)


def test_a_training_that_diverged_leaves_the_last_good_checkpoint(
    cache: FeatureCache, tmp_path: Path
) -> None:
    config = changed(SMALL, save_every=1)
    run = Sam2LiteSteps(initial_model(0), config, cache, {}, tmp_path, Team())
    run.advance()
    good = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    assert tmp_path / CHECKPOINT in good
    run.average["no_mem_embed"].fill_(float("nan"))
    with pytest.raises(WeightsError, match=r"diverged.*--set learning_rate"):
        run.advance()
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == good


def learn_in_a_team(own: Team, features: Path, out: Path) -> None:
    """Two steps with batches of its own; every process writes the weights that it ends with."""
    import torch

    from medfocus_pipeline.training import sam2_lite as training

    config = changed(SMALL, workers=2)
    described = training._describe(config)
    cache, model = training._open(config, features, described)
    run = Sam2LiteSteps(model, config, cache, {}, out, own)
    for _ in range(2):
        run.advance()
    torch.save(model.state_dict(), out / f"rank-{own.rank}.pt")


def test_processes_of_a_team_end_with_the_same_weights(features: Path, tmp_path: Path) -> None:
    import torch

    with team(2, learn_in_a_team, features, tmp_path) as own:
        learn_in_a_team(own, features, tmp_path)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(2))
    start = initial_model(SMALL.seed).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], start[name]) for name in first)


class Ended:
    """A process that has ended."""

    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode

    def join(self, timeout: float | None) -> None:
        pass


def test_a_training_may_start_from_weights_which_are_part_of_its_recipe(
    folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    start = tmp_path / "start.safetensors"
    train(SMALL, folder, advance=nothing).replace(start)
    (folder / CHECKPOINT).unlink()
    onward = changed(SMALL, start=start, steps=1, learning_rate=1e-9)
    found, own = load_file(train(onward, folder, advance=nothing)), load_file(start)
    for name, tensor in own.items():
        np.testing.assert_allclose(found[name].float(), tensor.float(), atol=1e-3, err_msg=name)
    assert json.loads((folder / RECIPE).read_text())["start"] == sha256(start)
    missing = changed(onward, start=tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        train(missing, folder, advance=nothing)


def test_a_process_that_was_killed_is_reported() -> None:
    parallel._part([Ended(0)], timeout=None)
    with pytest.raises(MedFocusError, match=r"ended with code -9.*out of memory"):
        parallel._part([Ended(0), Ended(-9)], timeout=None)


def test_prompts_lie_where_they_should() -> None:
    import torch

    masks = torch.zeros(60, 32, 32, dtype=torch.bool)
    masks[:, 8:20, 12:16] = True
    rng = torch.Generator().manual_seed(0)

    def at(points: Any) -> Any:
        column, row = points.long().unbind(1)
        return masks[torch.arange(len(points)), row, column]

    assert at(sam2_prompts.clicks(masks, rng, deep=0.5)).all()
    outside = sam2_prompts.misses(masks, rng)
    assert not at(outside).any()
    assert (outside >= torch.tensor([12 - 7, 8 - 7])).all()
    assert (outside < torch.tensor([16 + 7, 20 + 7])).all()

    boxes = sam2_prompts.boxes(masks, rng, jitter=0.1)
    exact = (boxes == torch.tensor([12.0, 8.0, 16.0, 20.0])).all(dim=1)
    assert 5 < exact.sum() < 30
    assert (boxes - torch.tensor([12.0, 8.0, 16.0, 20.0])).abs().max() < 6
    empty = torch.zeros(1, 32, 32, dtype=torch.bool)
    assert sam2_prompts.clicks(empty, rng, deep=1).shape == (1, 2)


def test_a_perfect_mask_has_hardly_any_loss() -> None:
    import torch

    target = torch.zeros(1, 16, 16)
    target[:, 4:9, 3:8] = 1
    logits = (40 * target - 20)[:, None].expand(-1, 4, -1, -1)
    wrong, iou, there = sam2_losses._errors(logits, target)
    assert wrong.max() < 1e-3
    assert iou.min() == 1
    assert there.all()
    worse, _, _ = sam2_losses._errors(-logits, target)
    assert worse.min() > 1
