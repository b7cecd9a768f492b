"""What the manifest says of a gate; which files are kept; which modality is another one."""

from pathlib import Path

import pytest

from medfocus_pipeline.datasets.card import Card, ClassCard, find_card
from medfocus_pipeline.datasets.gate_prompts import GatePrompts
from medfocus_pipeline.datasets.manifest import Manifest, build
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.gating import is_kept

PATHS = ("a/1.png", "a/2.png", "b/3.png", "b/4.png")


def make_manifest() -> Manifest:
    problems = ("", "", "", "is empty (0 bytes)")
    rows = [
        (f"id {n}", path, "", n // 2, "ab"[n // 2], "", "", "", 8, 8, "L", 1, 1, why)
        for n, (path, why) in enumerate(zip(PATHS, problems, strict=True))
    ]
    return build(rows, name="pets", classes=("a", "b"), from_card=False)


def test_a_gate_adds_its_scores_and_problems_and_leaves_without_a_trace() -> None:
    plain = make_manifest()
    found = {"id 0": (2.5, "MRI"), "id 1": (-0.5, "CT"), "id 2": (0.1, "MRI")}
    gated = plain.gated("key", found, {1: "looks like no medical image: score -0.50"})
    assert gated.gate == "key"
    assert gated.gate_scores == found
    assert gated.usable.tolist() == [0, 2]
    assert gated.refused == {"a/2.png": -0.5}
    assert dict(gated.problems)["b/4.png"] == "is empty (0 bytes)"
    assert gated.ungated().table.equals(plain.table, check_metadata=True)
    assert plain.ungated() is plain


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (("a/2.png",), True),
        (("2.png",), True),
        (("a/*",), True),
        (("*.png",), True),
        (("1.png", "b/*"), False),
        ((), False),
    ],
)
def test_a_file_is_kept_by_path_name_or_pattern(keep: tuple[str, ...], kept: bool) -> None:
    assert is_kept("a/2.png", keep) is kept


def test_a_name_with_brackets_is_a_name_first() -> None:
    assert is_kept("a/scan [1].png", ["scan [1].png"])


def card(modality: str) -> Card:
    return Card(title="Pets", modality=modality, classes=(ClassCard(name="a", prompt="a"),))


def test_images_of_another_modality_than_the_cards_are_named() -> None:
    found = {"id 0": (2.5, "MRI"), "id 1": (-0.5, "CT"), "id 2": (0.1, "CT")}
    gated = make_manifest().gated("key", found, {1: "looks like no medical image"})
    made = {
        name: Dataset(Path(), card(name), None, gated, gated.files)
        for name in ("brain MRI", "CT or MRI", "medical image")
    }
    assert made["brain MRI"].other_modality == {"b/3.png": "CT"}
    assert made["CT or MRI"].other_modality == {}
    assert made["medical image"].other_modality == {}


def test_every_packaged_cards_modality_is_one_that_the_gate_knows() -> None:
    known = [name.casefold() for name in GatePrompts().medical]
    for name in ("brain", "breast", "covid", "lungs", "rsna", "kermany"):
        one = find_card(name)
        assert one is not None
        assert any(word in one.modality.casefold() for word in known), one.modality


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"templates": ["a photo"]}, "expected one {} for the phrase"),
        ({"medical": {"MRI": []}}, "'MRI' has no phrase"),
        ({"other": {}}, "at least 1 item"),
        ({"pooling": "median"}, "best"),
    ],
)
def test_phrases_that_say_nothing_are_refused(values: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        GatePrompts.model_validate(values)
