"""A researcher's own embedding enters the table."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from medfocus_pipeline.config import FeaturesConfig, Runtime
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.encoders.feature_file import FeatureFile
from medfocus_pipeline.errors import DataError, WeightsError
from medfocus_pipeline.evaluation.scores import read_scored
from medfocus_pipeline.weights import FileHashes
from tests.stages.conftest import Medfocus

FITTED = ("probe", "--fractions", "100", "--seeds", "1", "--workers", "1")


@pytest.fixture
def paths(images: Path) -> list[str]:
    return sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))


def features(paths: list[str]) -> np.ndarray:
    """Features in which a disc is not a square."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(len(paths), 6)) + [[3.0 * ("disc" in path)] * 6 for path in paths]


def write_npy(folder: Path, paths: list[str]) -> Path:
    np.save(folder / "mine.npy", features(paths).astype(np.float64))
    (folder / "mine.txt").write_text("\n".join(paths) + "\n")
    return folder / "mine.npy"


def test_an_npy_is_a_line_of_the_table(
    medfocus: Medfocus, images: Path, paths: list[str], tmp_path: Path
) -> None:
    file = write_npy(tmp_path, [*paths, "gone.png"])
    start = ("embed", "shapes", "--data", images, "--profile", "imagenet")
    answer = medfocus(*start, "--features", file)
    assert answer.code == 0, answer.err
    assert "mine.npy has 1 rows of no image here: gone.png" in answer.err
    assert "nothing to do" in medfocus("embed", "--features", file).out
    answer = medfocus(*FITTED, "--row", "linear:original", "--row", "fusion:segmented")
    assert answer.code == 0, answer.err
    assert "needs an encoder of images" in answer.out
    results = read_scored(tmp_path / "cache" / "shapes" / "results").to_pandas()
    assert results[["encoder", "head"]].values.tolist() == [["mine", "linear"]]
    assert results["accuracy"].min() > 0.9
    answer = medfocus("export", "--head", "linear", "--focus", "original")
    assert answer.code == 2
    assert "says nothing of new images" in " ".join(answer.err.split())


def test_ids_of_the_manifest_do_as_well_and_other_numbers_are_another_store(
    medfocus: Medfocus, images: Path, tmp_path: Path
) -> None:
    medfocus("scan", "shapes", "--data", images, "--profile", "imagenet")
    manifest = pd.read_parquet(tmp_path / "cache" / "shapes" / "manifest.parquet")
    rows = features(manifest["path"].tolist())
    for factor in (1, 2):
        named = {f"f{column}": factor * rows[:, column] for column in range(6)}
        named |= {"image_id": manifest["image_id"], "age": range(len(rows))}
        pd.DataFrame(named).to_parquet(tmp_path / "mine.parquet")
        answer = medfocus("embed", "--features", tmp_path / "mine.parquet")
        assert "reading mine-original: 40 images" in answer.out, answer.err
    assert len(list((tmp_path / "cache" / "shapes" / "embeddings").iterdir())) == 2


def test_images_without_features_are_named_and_nothing_is_written(
    medfocus: Medfocus, images: Path, paths: list[str], tmp_path: Path
) -> None:
    file = write_npy(tmp_path, [*paths[5:], "a.png", "b.png"])
    answer = medfocus(
        "embed", "shapes", "--data", images, "--profile", "imagenet", "--features", file
    )
    assert answer.code == 1
    told = " ".join(answer.err.split())
    assert "no features of 5 of 40 images" in told
    assert paths[0] in told
    assert "and 2 more" in told
    assert "It has a.png, b.png that are no images here" in told


def test_a_focus_or_an_encoder_beside_it_is_refused(medfocus: Medfocus, images: Path) -> None:
    for other in (("--focus", "crop"), ("--encoder", "clip"), ("--views", "hflip")):
        answer = medfocus("embed", "shapes", "--features", "mine.npy", *other)
        assert answer.code == 2
        assert "--features goes without" in answer.err


def load(file: Path) -> FeatureFile:
    config = FeaturesConfig(file=file)
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    loaded = load_encoder(config, weights, Runtime(device="cpu"))
    assert isinstance(loaded, FeatureFile)
    return loaded


def test_a_list_column_is_read_and_byte_equal_files_share_a_row(tmp_path: Path) -> None:
    rows = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32()))
    table = pa.table({"path": ["./a/1.png", "a\\2.png"], "vector": rows, "score": [0.5, 0.5]})
    parquet.write_table(table, tmp_path / "mine.parquet")
    found, surplus = load(tmp_path / "mine.parquet").match({"x": ["b/1.png", "a/1.png"]})
    assert {key: row.tolist() for key, row in found.items()} == {"x": [1.0, 2.0]}
    assert surplus == ["a/2.png"]
    with pytest.raises(DataError, match=r"no features of 1 of 1 images: b\.png"):
        load(tmp_path / "mine.parquet").match({"y": ["b.png"]})


def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "mine.npy"
    with pytest.raises(WeightsError, match=r"no such file: .*mine\.npy, .*mine\.txt"):
        load(file)
    (tmp_path / "mine.txt").write_text("a\nb\nb\n")
    for rows, message in (
        (np.zeros((2, 4)), "it has 2 rows and 3 ids"),
        (np.zeros((3, 4)), "b stand in it twice"),
        (np.zeros(3), r"expected \(n, d\) numbers, got \(3,\) float64"),
    ):
        np.save(file, rows)
        with pytest.raises(WeightsError, match=message):
            load(file)
    (tmp_path / "mine.txt").write_text("a\nb\nc\n")
    np.save(file, [[1.0], [np.nan], [1.0]])
    with pytest.raises(WeightsError, match="features of b are not finite"):
        load(file)
    np.save(file, np.array([object()] * 3), allow_pickle=True)
    with pytest.raises(WeightsError, match="no features to read"):
        load(file)
    for columns, message in (
        ({"name": ["a"], "f": [1.0]}, "columns are name, f, none of image_id, path"),
        ({"path": ["a"], "age": [1]}, "expected one list column or float columns, got neither"),
        ({"path": ["a", "b"], "f": [[1.0], [1.0, 2.0]]}, "no features to read"),
    ):
        parquet.write_table(pa.table(columns), tmp_path / "mine.parquet")
        with pytest.raises(WeightsError, match=message):
            load(tmp_path / "mine.parquet")


@pytest.mark.parametrize(
    "changed",
    [
        lambda _: b"",
        lambda _: b"PK\x03\x04" + bytes(100),
        lambda whole: whole.replace(b"(2, 3)", b"(9**9,"),
        lambda whole: whole.replace(b"(2, 3), }", b"(20000000000000, 3), }"),
        lambda whole: whole[:-4],
    ],
    ids=["empty", "a packed file", "an open bracket", "more than there is", "cut off"],
)
def test_an_npy_that_is_none_is_one_sentence(
    tmp_path: Path, changed: Callable[[bytes], bytes]
) -> None:
    np.save(tmp_path / "mine.npy", np.ones((2, 3), np.float32))
    (tmp_path / "mine.txt").write_text("a\nb\n")
    assert load(tmp_path / "mine.npy").rows.shape == (2, 3)
    (tmp_path / "mine.npy").write_bytes(changed((tmp_path / "mine.npy").read_bytes()))
    with pytest.raises(WeightsError, match=r"mine\.npy has no features to read: .+"):
        load(tmp_path / "mine.npy")
