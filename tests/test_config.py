from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from medfocus_pipeline import config, profiles
from medfocus_pipeline.config import (
    ClipConfig,
    EmbedConfig,
    EncoderConfig,
    EncoderPluginConfig,
    FeaturesConfig,
    Frozen,
    HeadConfig,
    LiteClipConfig,
    MasksConfig,
    PluginConfig,
    ProbeConfig,
    ProbeRow,
    Runtime,
    Sam2Config,
    SamAdapterConfig,
    SegmenterConfig,
    ThresholdConfig,
)
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import FeaturePart, FocusMode

CONFIGS = [
    value
    for value in vars(config).values()
    if isinstance(value, type) and issubclass(value, Frozen) and value is not Frozen
    if not issubclass(value, PluginConfig)  # see below
]


NEEDED: dict[type[Frozen], dict[str, Path]] = {
    SamAdapterConfig: {"adapter": Path("a.safetensors")},
    FeaturesConfig: {"file": Path("mine.npy")},
}
"""Settings without a default."""


def implementations(union: object) -> tuple[type[Frozen], ...]:
    own, _plugin = get_args(get_args(union)[0])
    return get_args(get_args(own)[0])


def make(kind: type[Frozen]) -> Frozen:
    return kind.model_validate(NEEDED.get(kind, {}))


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_a_configuration_is_frozen_and_refuses_unknown_keys(kind: type[Frozen]) -> None:
    made = make(kind)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, next(iter(kind.model_fields)), None)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind.model_validate({"poins_per_side": 8})
    assert hash(made) == hash(make(kind))


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_a_configuration_survives_json(kind: type[Frozen]) -> None:
    assert kind.model_validate_json(make(kind).model_dump_json()) == make(kind)


@pytest.mark.parametrize(
    "union", [SegmenterConfig, EncoderConfig, HeadConfig], ids=["segmenter", "encoder", "head"]
)
def test_a_name_tells_which_configuration_it_is(union: object) -> None:
    names = [make(kind).name for kind in implementations(union)]
    assert len(set(names)) == len(names)
    for kind in implementations(union):
        assert kind.model_fields["name"].default == make(kind).name


def test_a_plug_in_keeps_the_keys_that_it_does_not_know_as_options() -> None:
    given = {"encoder": {"name": "mylab.models:Tiny", "depth": 3}}
    made = EmbedConfig.model_validate(given)
    expected = EncoderPluginConfig(name="mylab.models:Tiny", options={"depth": 3})
    assert made.encoder == expected
    assert hash(made.encoder) == hash(expected)
    assert EmbedConfig.model_validate_json(made.model_dump_json()) == made
    with pytest.raises(ValidationError, match="frozen"):
        made.encoder.name = "clip"  # type: ignore[assignment,misc]


def test_a_name_that_is_not_known_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="'sam2', 'threshold'"):
        MasksConfig.model_validate({"segmenter": {"name": "sam9"}})


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Runtime, {"batch_size": 0}),
        (Runtime, {"workers": 0}),
        (MasksConfig, {"frame": 100}),
        (MasksConfig, {"max_candidates": 256}),
        (ThresholdConfig, {"smoothing": -1.0}),
        (EmbedConfig, {"views": ()}),
        (EmbedConfig, {"focus": "blurred"}),
        (ProbeRow, {"focus": ()}),
        (ProbeConfig, {"seeds": 0}),
        (ProbeConfig, {"test_share": 1.0}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.__name__,
)
def test_a_value_out_of_range_is_refused_by_name(
    kind: type[Frozen], wrong: dict[str, object]
) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        kind(**wrong)


def test_the_profiles_are_the_ones_that_the_readme_names() -> None:
    known = ["biomedclip", "imagenet", "medclip", "medsam", "offline", "paper"]
    assert profiles.names() == known
    assert profiles.DEFAULT in profiles.names()


@pytest.mark.parametrize("name", profiles.names())
def test_a_profile_embeds_every_focus_mode_that_it_probes(name: str) -> None:
    profile = profiles.load_profile(name)
    embedded = {one.focus for one in profile.embed.configs(auto="salient")}
    assert {part.focus for row in profile.probe.rows for part in row.focus} <= embedded


def test_the_paper_profile_is_the_papers() -> None:
    profile = profiles.load_profile("paper")
    assert profile.masks.segmenter == Sam2Config(size="large")
    assert profile.embed.encoder == ClipConfig(model="openai/clip-vit-base-patch16")
    assert profile.probe.fractions == (5, 10, 20, 50, 100)
    assert profile.probe.seeds == 10


def test_the_offline_profile_needs_no_weights_of_a_hub() -> None:
    profile = profiles.load_profile("offline")
    assert profile.masks.segmenter == Sam2Config(size="lite")
    assert profile.embed.encoder == LiteClipConfig()


@pytest.mark.parametrize("name", ["offline", "paper"])
def test_each_focus_of_the_issue_has_a_linear_and_a_fusion_row(name: str) -> None:
    rows = {(row.head.name, row.focus) for row in profiles.load_profile(name).probe.rows}
    modes: tuple[FocusMode, ...] = ("original", "segmented", "overlay")
    assert {
        (head, (FeaturePart(focus),)) for head in ("linear", "fusion") for focus in modes
    } <= rows


@pytest.mark.parametrize("name", profiles.names())
def test_every_profile_has_medfocuss_own_row(name: str) -> None:
    rows = [(row.head.name, row.parts) for row in profiles.load_profile(name).probe.rows]
    assert ("linear", "original.levels+original.roi_levels") in rows


def test_parts_of_features_are_written_as_they_are_read() -> None:
    row = ProbeRow.model_validate({"focus": ["original.levels", "segmented", "roi_pooled"]})
    assert row.parts == "original.levels+segmented+segmented.roi_pooled"
    assert ProbeRow.model_validate_json(row.model_dump_json()) == row
    with pytest.raises(ValidationError, match=r"got 'original\.level', expected one of original"):
        ProbeRow.model_validate({"focus": ["original.level"]})


def test_the_original_is_pooled_over_the_region_where_others_need_it_anyway() -> None:
    def regions(**plan: object) -> list[bool]:
        configs = profiles.EmbedPlan.model_validate(plan).configs(auto="salient")
        return [one.roi_parts for one in configs if one.focus == "original"]

    assert regions(focus=["original"]) == [False]
    assert regions(focus=["original", "segmented"]) == [True]
    assert regions(focus=["original"], roi_parts=True) == [True]
    assert regions(focus=["original", "segmented"], roi_parts=False) == [False]


def test_the_imagenet_profile_has_nothing_that_learned_from_medical_images() -> None:
    profile = profiles.load_profile("imagenet")
    assert profile.masks.segmenter.name == "threshold"
    assert profile.embed.encoder.name == "efficientnet-lite0"


def test_a_focus_mode_that_stands_twice_is_one_store() -> None:
    plan = profiles.EmbedPlan(focus=("crop", "original", "crop"), roi="union", views=("hflip",))
    assert plan.configs(auto="salient") == [
        EmbedConfig(focus=focus, roi="union", roi_parts=True, views=("hflip",))
        for focus in ("crop", "original")
    ]


def test_augmented_views_are_stores_of_their_own_behind_the_others() -> None:
    plan = profiles.EmbedPlan(
        focus=("original", "crop"), views=("medical", "hflip", "identity"), copies=2
    )
    assert [(one.focus, one.views) for one in plan.configs(auto="best")] == [
        ("original", ("hflip", "identity")),
        ("crop", ("hflip", "identity")),
        ("original", ("medical", "medical")),
        ("crop", ("medical", "medical")),
    ]
    with pytest.raises(ValidationError, match="at least one of identity, hflip, centre_crop"):
        profiles.EmbedPlan(views=("medical",))


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    known = r"Known profiles: biomedclip, imagenet, medclip, medsam, offline, paper\."
    told = rf"no profile 'papr'\. Did you mean paper\? {known}"
    with pytest.raises(ConfigError, match=told):
        profiles.load_profile("papr")


def test_a_profile_that_is_not_valid_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text("probe: {seed: 3}")
    monkeypatch.setattr(profiles.resources, "files", lambda _: tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)Profile 'mine' is not valid.*probe\.seed"):
        profiles.load_profile("mine")


def test_the_roi_rule_auto_is_the_cards_and_a_named_one_stays() -> None:
    plan = profiles.EmbedPlan(focus=("original", "segmented"))
    assert {config.roi for config in plan.configs(auto="nested")} == {"nested"}
    named = profiles.EmbedPlan(roi="best")
    assert {config.roi for config in named.configs(auto="nested")} == {"best"}
