"""An encoder, a segmenter and a head of another package: the example of docs/extending.md."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medfocus_pipeline.config import EncoderPluginConfig, HeadPluginConfig, Runtime
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.evaluation.scores import read_scored
from medfocus_pipeline.heads.table import entry
from medfocus_pipeline.weights import FileHashes
from tests.stages.conftest import Medfocus

GUIDE = Path(__file__).parents[2] / "docs" / "extending.md"
FITTED = ("--fractions", "100", "--seeds", "2", "--workers", "1")


@pytest.fixture
def mylab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The guide's package on a path of its own, with the guide's entry points."""
    site = tmp_path / "site"
    (site / "mylab").mkdir(parents=True)
    models, masks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (site / "mylab" / "models.py").write_text(models)
    (site / "mylab" / "masks.py").write_text(masks)
    [points] = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    described = site / "mylab-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: mylab\nVersion: 1.0\n")
    lines = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", points).replace('"', "")
    (described / "entry_points.txt").write_text(lines)
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.split(".")[0] == "mylab"]:
        del sys.modules[name]


def test_all_three_appear_in_the_table(
    medfocus: Medfocus, images: Path, mylab: Path, tmp_path: Path
) -> None:
    answer = medfocus(
        *("masks", "shapes", "--data", images, "--profile", "imagenet"),
        *("--segmenter", "mylab.masks:Middle"),
    )
    assert answer.code == 0, answer.err
    answer = medfocus("embed", "--encoder", "mylab.models:Colours", "--set", "encoder.bins=4")
    assert answer.code == 0, answer.err
    rows = ("--row", "mylab.models:Nearest:original", "--row", "linear:segmented")
    answer = medfocus("probe", *rows, *FITTED)
    assert answer.code == 0, answer.err
    assert "mylab.models:Nearest on original" in answer.out
    results = read_scored(tmp_path / "cache" / "shapes" / "results").to_pandas()
    assert set(results["encoder"]) == {"mylab.models:Colours"}
    assert results["accuracy"].min() > 0.5  # a disc's histogram is not a square's
    assert "nothing to do" in medfocus("probe", *rows, *FITTED).out
    answer = medfocus("report")
    assert answer.code == 0, answer.err
    page = next((tmp_path / "cache" / "shapes").rglob("*.html")).read_text()
    assert "encoder.name=mylab.models:Colours" in page
    answer = medfocus("export", "--head", "mylab.models:Nearest")
    assert answer.code == 2
    assert "a classifier's folder has no code in it" in " ".join(answer.err.split())


def test_an_entry_point_stands_for_its_value(medfocus: Medfocus, images: Path, mylab: Path) -> None:
    medfocus("masks", "shapes", "--data", images, "--profile", "imagenet")
    first = medfocus("embed", "--encoder", "mylab.models:Colours", "--focus", "original")
    assert "embedding mylab.models:Colours-original: 40 images" in first.out
    again = medfocus("embed", "--encoder", "colours", "--focus", "original")
    assert "nothing to do" in again.out
    assert "nearest on original" not in medfocus("probe", "--row", "nearest:original", *FITTED).out


def test_installed_plug_ins_are_listed(medfocus: Medfocus, mylab: Path) -> None:
    assert "  colours (mylab.models:Colours)" in medfocus("models", "list").out
    assert "of another package: nearest (mylab.models:Nearest)" in medfocus("heads", "list").out


def test_another_version_is_another_store_and_other_runs(
    medfocus: Medfocus, images: Path, mylab: Path
) -> None:
    medfocus("masks", "shapes", "--data", images, "--profile", "imagenet")
    embed = ("embed", "--encoder", "colours", "--focus", "original")
    probe = ("probe", "--row", "nearest:original", *FITTED)
    for command in (embed, probe):
        medfocus(*command)
        assert "nothing to do" in medfocus(*command).out
    import mylab.models as models

    models.Nearest.version = "2"
    assert "2 runs fitted" in medfocus(*probe).out
    models.Colours.version = "2"
    assert "40 images" in medfocus(*embed).out


def test_weights_that_it_names_are_in_the_key(mylab: Path) -> None:
    path = mylab / "mylab" / "models.py"
    path.write_text(
        path.read_text().replace(
            "    token_grid = None\n",
            "    token_grid = None\n\n    @staticmethod\n    def files(bins=8):\n"
            f"        return [{str(mylab / 'weights.bin')!r}]\n",
        )
    )
    keys = []
    for content in (b"one", b"two"):
        (mylab / "weights.bin").write_bytes(content)
        weights = find_weights(colours(), FileHashes(), download=False)
        assert weights is not None
        keys.append(weights.identity.files)
    assert keys[0].keys() == {"version", "weights.bin"}
    assert keys[0] != keys[1]


def colours(**options: object) -> EncoderPluginConfig:
    return EncoderPluginConfig(name="mylab.models:Colours", options=options)


def load(config: EncoderPluginConfig) -> None:
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    load_encoder(config, weights, Runtime(device="cpu"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mylab.models:Missing", r"has no callable Missing. It has: .*Colours"),
        ("mylab.other:Colours", r"cannot be imported: ModuleNotFoundError.* PYTHONPATH"),
        ("mylab.models:FittedNearest", r"got version None, expected a text"),
        (":Colours", r"expected package\.module:Factory"),
    ],
)
def test_a_name_that_is_of_no_plug_in(mylab: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_weights(EncoderPluginConfig(name=name), FileHashes(), download=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return Encoded(", "return tuple([", "got a tuple of encode, expected .*Encoded"),
        ("np.array(counts, np.float32)", "np.array(counts, float)", "float64 of pooled, expected"),
        ("3 * bins", "bins", "got .* of pooled, expected"),
        ("return image[rows][:, columns]", "return image", r"got \(48, 64, 3\) uint8 of prepare"),
        ("side = 64", "side = 32", "got a side of 32, expected 64"),
    ],
)
def test_an_encoder_that_does_not_keep_to_the_contract(
    mylab: Path, old: str, new: str, message: str
) -> None:
    path = mylab / "mylab" / "models.py"
    text = path.read_text().replace(old, new, 1)
    if "tuple([" in new:
        text = text.replace("pixels.shape[1], None)", "pixels.shape[1], None])")
    if new == "bins":
        text = text.replace("reshape(len(pictures), self.dim)", "reshape(len(pictures), -1)")
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(colours())


def test_options_that_it_does_not_take(mylab: Path) -> None:
    with pytest.raises(ConfigError, match=r"unexpected keyword.*Given were device, depth"):
        load(colours(depth=3))


def test_a_head_that_needs_what_there_is_not(mylab: Path) -> None:
    import mylab.models as models

    models.Nearest.needs = "a miracle"
    with pytest.raises(ConfigError, match="got needs 'a miracle', expected one of 'nothing'"):
        entry(HeadPluginConfig(name="mylab.models:Nearest"))


def test_a_package_on_the_path_of_another_process_is_found(mylab: Path) -> None:
    program = (
        "from medfocus_pipeline.config.plugin import installed as i; print(i('medfocus.heads'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{mylab}:{GUIDE.parents[1]}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "{'nearest': 'mylab.models:Nearest'}"
