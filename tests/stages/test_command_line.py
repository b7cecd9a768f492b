"""What every command has in common: flags anywhere, the cache's place, names nearly right."""

from pathlib import Path

import pytest

from tests.stages.conftest import Medfocus


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("masks", "mine", "--profile", "oflfine"), "Did you mean offline?"),
        (("probe", "mine", "--row", "liner:original"), "Did you mean linear?"),
        (("embed", "mine", "--focus", "segmentd"), "Did you mean segmented?"),
        (("embed", "mine", "--encoder", "open_clib"), "Did you mean open_clip?"),
        (("masks", "mine", "--segmenter", "medsan"), "Did you mean medsam?"),
        (("reproduce", "mine", "--rows", "medfocs"), "Did you mean medfocus?"),
    ],
)
def test_a_name_that_is_nearly_right_is_guessed(
    medfocus: Medfocus, images: Path, arguments: tuple[str, ...], told: str
) -> None:
    answer = medfocus(*arguments, "--data", images)
    assert answer.code == 2
    assert told in " ".join(answer.err.split())


def test_a_name_of_nothing_is_not_guessed(medfocus: Medfocus) -> None:
    answer = medfocus("masks", "mine", "--profile", "xyzzy")
    assert answer.code == 2
    assert "Did you mean" not in answer.err


def test_quiet_may_stand_anywhere_and_leaves_results_alone(
    medfocus: Medfocus, images: Path
) -> None:
    start = ("mine", "--data", images, "--profile", "imagenet")
    for arguments in (("-q", "masks", *start), ("embed", "mine", "--quiet"), ("status", "-q")):
        answer = medfocus(*arguments)
        assert (answer.code, answer.err) == (0, "")
        assert answer.out


def test_the_cache_may_be_named_by_the_environment(
    medfocus: Medfocus, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDFOCUS_CACHE", str(tmp_path / "elsewhere"))
    assert medfocus("scan", "mine", "--data", images).code == 0
    assert (tmp_path / "elsewhere" / "mine" / "manifest.parquet").exists()
    assert not (tmp_path / "cache").exists()
