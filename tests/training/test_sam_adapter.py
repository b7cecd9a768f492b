"""Training SAM-Adapter: it learns, SAM stays, and going on is as if never stopped."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.sam.sam_model import find_sam, load_sam
from medfocus_pipeline.segmenters.sam_adapter import new_adapted, read_metadata
from medfocus_pipeline.training import sam_adapter, sam_adapter_run
from medfocus_pipeline.training.loop import LOG
from medfocus_pipeline.training.sam_adapter import SamAdapterTraining, train
from medfocus_pipeline.training.sam_adapter_data import Example, batch, hold_out
from medfocus_pipeline.training.sam_adapter_losses import losses
from medfocus_pipeline.training.sam_adapter_run import COLUMNS
from medfocus_pipeline.weights import FileHashes, Weights
from tests.segmenters.sam_models import IMAGE_SIZE, MASK_SIDE, write_sam

SMALL = SamAdapterTraining(
    steps=4, batch_size=2, reduction=4, device="cpu", log_every=2, save_every=2
)


def nothing(_: int) -> None:
    """An `advance` that tells nobody."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    folder = write_sam(tmp_path_factory.mktemp("sam") / "tiny-sam")
    found = find_sam(str(folder), None, FileHashes(), download=False)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Bright discs on noise, of one patient two images each."""
    folder = tmp_path_factory.mktemp("discs")
    return [draw(folder, number) for number in range(24)]


def draw(folder: Path, number: int) -> Example:
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:48, :64]
    inside = np.hypot(x - rng.uniform(14, 50), y - rng.uniform(12, 36)) < rng.uniform(8, 14)
    grey = (rng.integers(20, 80, inside.shape) + 150 * inside).astype(np.uint8)
    image, mask = folder / f"{number}.png", folder / f"{number}_mask.png"
    Image.fromarray(grey).save(image)
    Image.fromarray(inside).save(mask)
    return Example(f"{number:064x}", f"patient {number // 2}", image, (mask,))


def changed(**settings: Any) -> SamAdapterTraining:
    return SMALL.model_copy(update=settings)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_loss_falls_and_held_out_iou_rises(
    weights: Weights, examples: list[Example], tmp_path: Path
) -> None:
    config = changed(steps=50, batch_size=6, learning_rate=5e-3, log_every=10, save_every=50)
    done = train(config, examples, weights, tmp_path, advance=nothing)
    assert (done.images, done.held_out) == (18, 6)
    found = rows(tmp_path)
    assert list(found[0]) == list(COLUMNS)
    assert [int(row["step"]) for row in found] == list(range(10, 51, 10))
    assert float(found[-1]["loss"]) < 0.5 * float(found[0]["loss"])
    assert done.after > max(0.5, done.before + 0.2)
    assert float(found[-1]["held_out_iou"]) == pytest.approx(done.after, abs=1e-4)
    said = read_metadata(done.adapter)
    assert (said.base, said.reduction) == ("facebook/sam-vit-base", 4)
    assert said.trained["held_out_iou"] == [done.before, done.after]


def test_a_training_that_was_stopped_ends_with_the_same_bytes(
    weights: Weights,
    examples: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = train(SMALL, examples, weights, tmp_path / "whole", advance=nothing)
    told: list[int] = []
    real = sam_adapter_run.batch

    def stopping(*arguments: Any, **options: Any) -> Any:
        if len(told) == 4:  # 0 at the start, then three steps: the last is not saved
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(sam_adapter_run, "batch", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, examples, weights, tmp_path / "parts", advance=told.append)
    monkeypatch.undo()
    told.clear()
    parts = train(SMALL, examples, weights, tmp_path / "parts", advance=told.append)
    assert told == [2, 1, 1]
    assert parts.adapter.read_bytes() == whole.adapter.read_bytes()
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert parts.after == whole.after

    told.clear()
    again = train(SMALL, examples, weights, tmp_path / "parts", advance=told.append)
    assert told == [4]
    assert again.adapter.read_bytes() == whole.adapter.read_bytes()


def test_sam_itself_is_not_changed(
    weights: Weights, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    models: list[Any] = []

    def remembered(*arguments: Any, **options: Any) -> Any:
        models.append(new_adapted(*arguments, **options))
        return models[-1]

    monkeypatch.setattr(sam_adapter, "new_adapted", remembered)
    train(changed(steps=2), examples, weights, tmp_path, advance=nothing)
    (sam,) = models
    own = load_sam(weights).state_dict()
    same = {name: torch.equal(own[name], new) for name, new in sam.model.state_dict().items()}
    assert all(same[name] for name in same if not name.startswith("mask_decoder."))
    assert not all(same.values())
    assert bool(sam.layers["up"].weight.any())


def test_a_checkpoint_of_another_training_is_refused(
    weights: Weights, examples: list[Example], tmp_path: Path
) -> None:
    train(changed(steps=1), examples, weights, tmp_path, advance=nothing)
    with pytest.raises(ConfigError, match=r"learning_rate changed.*--work"):
        other = changed(steps=1, learning_rate=1e-3)
        train(other, examples, weights, tmp_path, advance=nothing)
    with pytest.raises(ConfigError, match=r"images changed"):
        train(changed(steps=1), examples[:-1], weights, tmp_path, advance=nothing)


def test_a_patient_is_held_out_whole_and_the_draw_ignores_the_order(
    examples: list[Example],
) -> None:
    learning, aside = hold_out(examples, share=0.25, seed=0)
    assert len(learning) + len(aside) == 24
    assert len(aside) == 6
    assert {one.group for one in learning}.isdisjoint(one.group for one in aside)
    _, again = hold_out(examples[::-1], share=0.25, seed=0)
    assert {one.image_id for one in again} == {one.image_id for one in aside}
    _, other = hold_out(examples, share=0.25, seed=1)
    assert other != aside
    few, most = hold_out(examples[:4], share=0.99, seed=0)
    assert (len(few), len(most)) == (2, 2)
    with pytest.raises(DataError, match="2 annotated training images of 1 patient;"):
        hold_out(examples[:2], share=0.2, seed=0)


def test_targets_are_the_share_of_each_cell_and_turn_with_the_image(
    examples: list[Example],
) -> None:
    import torch

    one = examples[0]
    pixels, targets = batch([one, one], side=IMAGE_SIZE, cells=MASK_SIDE, mirror=[False, True])
    assert pixels.shape == (2, 3, IMAGE_SIZE, IMAGE_SIZE)
    _, mask = one.read()
    blocks = mask.reshape(MASK_SIDE, 3, MASK_SIDE, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(targets[0], blocks, atol=1e-6)
    torch.testing.assert_close(targets[1], targets[0].flip(-1))
    torch.testing.assert_close(pixels[1], pixels[0].flip(-1), atol=1e-5, rtol=0)


class Perfect:
    """An adapted SAM that answers with what it is given."""

    def __init__(self, logits: Any) -> None:
        self.logits = logits

    def answer(self, pixels: Any) -> Any:
        import torch

        return self.logits, torch.full((len(self.logits),), 0.5)


def test_losses_are_those_of_a_hand_computed_case() -> None:
    import torch

    targets = torch.zeros(1, 2, 2)
    targets[0, 0] = 1
    sam: Any = Perfect(torch.zeros(1, 2, 2))  # every probability is a half, no cell is found
    found = losses(sam, targets, targets)
    assert float(found["entropy"]) == pytest.approx(np.log(2))
    assert float(found["overlap"]) == pytest.approx(1 - (1 + 1) / (3 + 1))
    assert float(found["score"]) == pytest.approx(0.25)
    assert float(found["iou"]) == 0
    right: Any = Perfect(40 * targets - 20)
    found = losses(right, targets, targets)
    assert float(found["entropy"] + found["overlap"]) < 1e-4
    assert float(found["iou"]) == 1
