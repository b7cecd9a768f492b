"""``medfocus phantom`` as a user runs it."""

import json
from pathlib import Path

import pytest

from tests.stages.conftest import Medfocus

SMALL = ("--train", "8", "--test", "4", "--size", "32", "--workers", "1")


def test_a_set_is_drawn_and_what_comes_next_is_said(medfocus: Medfocus) -> None:
    answer = medfocus("phantom", "brain", *SMALL)
    assert answer.code == 0, answer
    assert "12 images (8 to train, 4 to test) in data/phantom-brain, seed 0" in answer.out
    assert "nothing in them is clinical" in answer.out
    assert "next: make masks DATASET=phantom-brain PROFILE=offline" in answer.out
    scanned = medfocus("scan", "phantom-brain")
    assert "Phantom brain (brain MRI)" in scanned.out
    assert "12 usable images" in scanned.out
    masks = medfocus("masks", "phantom-brain", "--profile", "imagenet")
    assert "mean IoU of the ROI with the annotations of 9 images" in masks.out


def test_drawn_again_there_is_nothing_to_do(medfocus: Medfocus) -> None:
    medfocus("phantom", "breast", *SMALL)
    answer = medfocus("phantom", "breast", *SMALL)
    assert "all 12 images are drawn, nothing to do" in answer.out
    assert "12 without an official split" in answer.out
    fewer = medfocus("phantom", "breast", "--train", "6", "--test", "0", "--size", "32")
    assert "6 more are there from an earlier run" in fewer.out


def test_another_seed_needs_force_or_another_folder(medfocus: Medfocus) -> None:
    medfocus("phantom", "covid", *SMALL)
    refused = medfocus("phantom", "covid", *SMALL, "--seed", "1")
    assert refused.code == 1
    assert "medfocus phantom covid --force" in refused.err
    elsewhere = medfocus("phantom", "covid", *SMALL, "--seed", "1", "--data", "other")
    assert 'next: make masks DATASET=phantom-covid DATA="other"' in elsewhere.out
    forced = medfocus("phantom", "covid", *SMALL, "--seed", "1", "--force")
    assert forced.code == 0
    assert json.loads(Path("data/phantom-covid/phantom.json").read_text())["seed"] == 1


def test_pictures_are_no_data_set_to_segment(medfocus: Medfocus) -> None:
    answer = medfocus("phantom", "pictures", *SMALL)
    assert answer.code == 0
    assert "next:" not in answer.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("knee",),
        ("brain", "--train", "0", "--test", "0"),
        ("brain", "--seed", str(2**70)),
        ("brain", "--data", "taken"),
    ],
    ids=" ".join,
)
def test_nonsense_is_one_message(medfocus: Medfocus, arguments: tuple[str, ...]) -> None:
    Path("taken").touch()
    answer = medfocus("phantom", *arguments)
    assert answer.code == (1 if "taken" in arguments else 2)
    assert answer.err.startswith("Error: ")
    assert "Traceback" not in answer.err
