"""Training lite-clip: it learns, goes on as if nothing had happened, and writes what loads."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from medfocus_pipeline.config import LiteClipConfig, Runtime
from medfocus_pipeline.datasets.phantoms.phantom import CLASSES, KINDS, PICTURES
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.encoders.clip import ClipEncoder
from medfocus_pipeline.encoders.lite_clip import open_tokenizer
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.training import lessons, phantom_pairs
from medfocus_pipeline.training.lite_clip import LiteClipTraining, make_model, prepare, train
from medfocus_pipeline.training.lite_clip_export import moved
from medfocus_pipeline.training.phantom_pairs import Pair, PhantomPlan
from medfocus_pipeline.training.prompts import (
    card_of,
    card_prompts,
    groups,
    plain,
    zero_shot_accuracy,
)
from medfocus_pipeline.training.tokenizer import train_tokenizer
from medfocus_pipeline.weights import FileHashes

LEARNED = (*KINDS, PICTURES)

CONFIG = LiteClipTraining(
    phantoms=18,
    focus=("segmented",),
    steps=20,
    warmup=2,
    batch_size=24,
    captions=12,
    learning_rate=3e-3,
    dim=16,
    width=32,
    layers=1,
    heads=2,
    vocabulary=256,
    save_every=5,
)


def ignore(_: int) -> None:
    """Told of progress that no test looks at."""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the phantoms are embedded and nothing is trained."""
    folder = tmp_path_factory.mktemp("training") / "lite-clip"
    prepare(CONFIG, folder, advance=ignore)
    return folder


@pytest.fixture(scope="module")
def trained(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder after a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "lite-clip"
    shutil.copytree(embedded, folder)
    train(CONFIG, folder, advance=ignore)
    return folder


def losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_the_loss_falls(trained: Path) -> None:
    found = losses(trained)
    assert len(found) == CONFIG.steps
    assert np.mean(found[-5:]) < 0.9 * np.mean(found[:5])


def test_a_run_that_was_killed_goes_on_as_if_nothing_had_happened(
    embedded: Path, trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "lite-clip"
    shutil.copytree(embedded, folder)
    done = 0

    def kill(steps: int) -> None:
        nonlocal done
        done += steps
        if done == 8:  # three steps after the last checkpoint
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, folder, advance=kill)
    advanced: list[int] = []
    train(CONFIG, folder, advance=advanced.append)
    assert advanced == [5] + [1] * 15
    assert losses(folder) == losses(trained)
    for path in (trained / "weights").iterdir():
        assert (folder / "weights" / path.name).read_bytes() == path.read_bytes()


def test_a_folder_of_other_settings_is_not_gone_on_with(trained: Path) -> None:
    with pytest.raises(ConfigError, match="learning_rate changed"):
        train(CONFIG.model_copy(update={"learning_rate": 1e-4}), trained, advance=ignore)


def test_phantoms_are_embedded_once(embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> Encoder:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(phantom_pairs, "load_encoder", load)
    advanced: list[int] = []
    prepare(CONFIG, embedded, advance=advanced.append)
    assert sum(advanced) == 2 * CONFIG.phantoms


def test_drawings_that_changed_are_embedded_anew(
    embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phantom_pairs, "drawn_digest", lambda seed: f"other {seed}")
    monkeypatch.setattr(phantom_pairs, "fill", lambda *_, on_rows: None)
    with pytest.raises(KeyError):  # nothing was embedded, so nothing is read
        prepare(CONFIG, embedded, advance=ignore)


def test_the_trained_folder_is_an_encoder(trained: Path) -> None:
    config = LiteClipConfig(checkpoint=trained / "weights")
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    assert weights.identity.id == "weights"
    encoder = load_encoder(config, weights, Runtime(device="cpu"))
    assert isinstance(encoder, ClipEncoder)
    assert encoder.dim == 1280
    assert 0 <= zero_shot_accuracy(encoder, "breast", seed=5, count=3) <= 1


def test_every_kind_and_class_is_learned_in_every_focus_mode() -> None:
    plan = PhantomPlan(count=1000, seed=0, focus=("segmented", "overlay"))
    original = plan.ids("original")
    others = [plan.ids("segmented"), plan.ids("overlay")]
    assert len(set(original)) == 1000
    assert sorted(others[0] + others[1]) == sorted(original)
    for ids in others:
        seen = {(kind, int(index) % len(CLASSES[kind])) for kind, index in map(split, ids)}
        assert len(seen) == sum(len(CLASSES[kind]) for kind in LEARNED)


def split(row: str) -> tuple[str, str]:
    kind, index = row.split("/")
    return kind, index


def test_more_phantoms_keep_the_ones_that_were_there() -> None:
    few, many = (PhantomPlan(count=n, seed=0, focus=("crop",)).ids("original") for n in (90, 180))
    assert set(few) < set(many)


def test_no_prompt_of_a_card_is_ever_learned() -> None:
    rng, held_out = np.random.default_rng(0), card_prompts()
    classes, _ = groups()
    drawn = {plain(group.prompt(rng)) for group in classes for _ in range(300)}
    assert not drawn & held_out
    assert "a brain mri of a glioma tumor" in held_out


def test_a_caption_that_is_a_cards_prompt_gives_way(tmp_path: Path) -> None:
    prompt = card_of("brain").prompts()[0][0]
    pairs = [
        Pair("brain", "glioma", caption, np.arange(4, dtype=np.float32) * n)
        for n, caption in enumerate([prompt.upper(), "a glioma on the left"])
    ]
    lesson = lessons.make_lesson(
        tmp_path / "tokenizer.json", pairs, seed=0, vocabulary=256, length=16
    )
    texts = lesson.tokenizer.batch_decode(lesson.captions, skip_special_tokens=True)
    squeezed = ["".join(text.split()) for text in texts]
    assert squeezed[0] != "".join(plain(prompt).split()) + "."
    assert squeezed[1].replace("\N{LOWER ONE EIGHTH BLOCK}", "") == "agliomaontheleft"


def test_texts_that_took_the_projection_over_are_as_similar_as_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [
        Pair("brain", "glioma", "a glioma", 3 + rng.normal(size=24).astype(np.float32))
        for _ in range(200)
    ]
    lesson = lessons.make_lesson(
        tmp_path / "tokenizer.json", pairs, seed=0, vocabulary=256, length=16
    )
    model = make_model(lesson, CONFIG).eval()
    onto, temperature = moved(model, lesson)
    features = torch.from_numpy(np.stack([pair.feature for pair in pairs]))
    tokens = lesson.tokenizer(["a glioma", "healthy lungs"], padding=True, return_tensors="pt")
    with torch.no_grad():
        texts = model.text(tokens.input_ids)
        before = model.image(torch.from_numpy(lesson.features)) @ texts.text_embeds.T
        model.text.text_projection.weight = torch.nn.Parameter(onto)
        after = features @ model.text(tokens.input_ids).text_embeds.T
    error = (after - before).std(dim=0) / before.std(dim=0)
    assert (error < 0.3).all()
    assert 0 < float(temperature) < 1


def test_classes_of_one_phrase_are_one_group() -> None:
    classes, index = groups()
    assert index["covid", "Covid"] == index["lungs", "Corona Virus Disease"]
    assert index["covid", "Normal"] == index["lungs", "Normal"]
    assert len(set(index.values())) == len(classes)
    assert set(index) == {(kind, label) for kind in LEARNED for label in CLASSES[kind]}
    assert classes[index[PICTURES, "texture"]].names == ("texture",)


def test_the_tokenizer_spells_what_it_never_met(tmp_path: Path) -> None:
    texts = ["a breast ultrasound of a mass"] * 3 + ["a chest X-ray"] * 3
    for name in ("a.json", "b.json"):
        train_tokenizer(tmp_path / name, texts, vocabulary=200)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    tokenizer = open_tokenizer(tmp_path / "a.json", length=16)
    (known, unknown, other) = tokenizer(["A MASS", "z9!", "\N{SNOWMAN}"]).input_ids
    assert len(known) == 4
    assert tokenizer.unk_token_id not in unknown
    assert tokenizer.unk_token_id in other
    assert len(tokenizer(["mass " * 100], truncation=True).input_ids[0]) == 16
