"""Profiles of MedFocus and of the user, listed, shown, checked and used."""

from pathlib import Path

import pytest
import yaml

from medfocus_pipeline import profiles
from medfocus_pipeline.commands import doctor
from medfocus_pipeline.profiles import Profile, load_profile
from tests.stages.conftest import Medfocus, call

MINE = """\
# Mine: smoother.
masks: {segmenter: {name: threshold, smoothing: 3}}
embed: {encoder: {name: efficientnet-lite0}, focus: [original], views: [identity]}
probe: {rows: [{focus: [original]}], seeds: 2}
"""


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any weights of a hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_the_list_says_what_each_is_and_what_it_fetches(medfocus: Medfocus, no_hub: None) -> None:
    answer = medfocus("profiles")
    assert answer.code == 0
    text = " ".join(answer.out.split())
    for name in profiles.names():
        assert name in text
        assert profiles.summary(name).split()[0] in text
    assert "facebook/sam2.1-hiera-large 897.6 MB" in text
    assert "openai/clip-vit-base-patch16 598.4 MB: not all here yet" in text
    assert "downloads nothing" in text
    assert "paper (default)" in text


@pytest.mark.parametrize("name", profiles.names())
def test_what_is_shown_is_a_profile_of_its_own(medfocus: Medfocus, name: str) -> None:
    answer = medfocus("profiles", name)
    assert answer.code == 0
    assert answer.out.startswith(f"# {profiles.summary(name)}")
    assert Profile.model_validate(yaml.safe_load(answer.out)) == load_profile(name)
    Path("copy.yml").write_text(answer.out)
    assert load_profile("copy.yml") == load_profile(name)


def test_a_file_is_a_profile(medfocus: Medfocus, images: Path, tmp_path: Path) -> None:
    Path("mine.yaml").write_text(MINE)
    first = medfocus("masks", "shapes", "--data", images, "--profile", "mine.yaml")
    assert first.code == 0, first
    assert "profile " + str(tmp_path / "mine.yaml") in first.out
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = call("masks", "shapes", "--cache", tmp_path / "cache", cwd=elsewhere)
    assert "nothing to do" in again.out
    assert "settings of the last run" not in again.out
    other = medfocus("masks", "--set", "segmenter.smoothing=1")
    assert "40 images in" in other.out
    assert "# Mine: smoother." in medfocus("profiles", "mine.yaml").out


def test_a_profile_that_is_gone_or_wrong_is_one_sentence(medfocus: Medfocus, images: Path) -> None:
    Path("mine.yaml").write_text(MINE)
    common = ("scan", "shapes", "--data", images, "--profile", "mine.yaml")
    assert medfocus(*common).code == 0
    Path("mine.yaml").unlink()
    gone = medfocus("scan")
    assert gone.code == 2
    assert "cannot be read: No such file" in gone.err
    assert "--profile paper" in gone.err
    for text, told in (
        ("masks: [", "is not YAML"),
        ("masks: {sise: 3}\nprobe: {seed: 1}", "masks.sise: Extra inputs are not permitted"),
        ("- 1", "is not valid"),
    ):
        Path("mine.yaml").write_text(text)
        wrong = medfocus(*common)
        assert wrong.code == 2
        assert told in wrong.err
        assert "Traceback" not in wrong.err
    Path("mine.yaml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in medfocus(*common).err


def test_an_unknown_name_is_refused_with_the_known_ones(medfocus: Medfocus) -> None:
    answer = medfocus("profiles", "papr")
    assert answer.code == 2
    assert f"Known profiles: {', '.join(profiles.names())}." in answer.err
    assert "--profile mine.yaml" in answer.err


def test_doctor_says_for_each_profile_whether_it_runs_here(
    medfocus: Medfocus, no_hub: None
) -> None:
    answer = medfocus("doctor")
    lines = {line.split()[0]: line.split() for line in answer.out.splitlines() if line.split()}
    assert lines["imagenet"][1] == "yes"
    assert lines["paper"][1] == "no"
    text = " ".join(answer.out.split())
    assert "medfocus models pull facebook/sam2.1-hiera-large, about 897.6 MB" in text
    assert "medfocus models pull openai/clip-vit-base-patch16, about 598.4 MB" in text
    assert answer.code == 0  # no profile was asked for, and one runs
    assert "everything is in place for imagenet" in answer.out
    assert medfocus("doctor", "--profile", "imagenet").code == 0
    assert medfocus("doctor", "--profile", "paper").code == 1


def test_doctor_looks_at_a_profile_of_the_users(medfocus: Medfocus) -> None:
    Path("mine.yaml").write_text(MINE)
    answer = medfocus("doctor", "--profile", "mine.yaml")
    assert answer.code == 0
    assert "mine.yaml" in answer.out
    Path("mine.yaml").write_text("masks: {segmenter: {name: sam2, checkpoint: nowhere.pt}}")
    answer = medfocus("doctor", "--profile", "mine.yaml")
    assert answer.code == 1
    assert "no such file: nowhere.pt" in " ".join(answer.out.split())


def test_a_package_that_is_missing_is_named_with_its_remedy(
    medfocus: Medfocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> str:
        if name == "sam2":
            raise doctor.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", without)
    answer = medfocus("doctor", "--profile", "paper")
    assert answer.code == 1
    text = " ".join(answer.out.split())
    assert "the package sam2 is not installed (pip install --no-build-isolation sam2)" in text
