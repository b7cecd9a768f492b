import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from medfocus_pipeline.classifier import Classifier
from medfocus_pipeline.classifier.pack import CARD, CONFIG, TENSORS, read_pack, write_pack
from medfocus_pipeline.classifier.pack_config import anchored
from medfocus_pipeline.config import ClipConfig, EfficientNetLiteConfig, LiteClipConfig
from medfocus_pipeline.encoders import find_weights
from medfocus_pipeline.errors import ConfigError, WeightsError
from medfocus_pipeline.heads.linear import FittedLinear
from medfocus_pipeline.model_record import found_again
from medfocus_pipeline.weights import FileHashes
from tests.classifier.packs import classifier, images, pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pack(pack(), "a card\n", tmp_path / "pack")
    return tmp_path / "pack"


def test_a_pack_is_three_files_and_reads_back(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {CONFIG, TENSORS, CARD}
    written, read = pack(), read_pack(folder)
    assert read.config.model_copy(update={"tensors_sha256": ""}) == written.config
    np.testing.assert_array_equal(read.familiar.rows, written.familiar.rows)
    for name, array in written.head.arrays.items():
        np.testing.assert_array_equal(read.head.arrays[name], array)


def test_a_pack_is_written_the_same_twice_and_replaces_itself(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_pack(pack(), "a card\n", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_with_files_of_the_users_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(ConfigError, match=r"holds 'thesis.docx'.*--out"):
        write_pack(pack(), "", tmp_path)
    readme = tmp_path / "project"
    readme.mkdir()
    (readme / CARD).write_text("mine")
    with pytest.raises(ConfigError, match=CARD):
        write_pack(pack(), "", readme)


def test_a_folder_that_is_no_pack_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has no config\.json\. Make one: medfocus export"):
        read_pack(tmp_path)
    with pytest.raises(WeightsError, match="is no folder of a classifier"):
        read_pack(tmp_path / "nothing")


def test_the_config_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text('{"model_type": "clip"}')
    with pytest.raises(WeightsError, match="is not that of a classifier"):
        read_pack(tmp_path)


@pytest.mark.parametrize("version", [2, 3, 5])
def test_another_version_is_refused(folder: Path, version: int) -> None:
    values = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(values | {"version": version}))
    with pytest.raises(WeightsError, match="another version of MedFocus: version"):
        read_pack(folder)


def test_a_plug_in_is_refused_because_a_folder_may_be_anybodys(folder: Path) -> None:
    values = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(values | {"encoder": {"name": "os.path:join"}}))
    with pytest.raises(WeightsError, match=r"names the plug-in os\.path:join"):
        read_pack(folder)


def test_a_config_that_was_changed_is_refused(folder: Path) -> None:
    values = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(values | {"threshold": 0.75}))
    with pytest.raises(WeightsError, match=r"content was changed\. Export the classifier again"):
        read_pack(folder)
    (folder / CONFIG).write_text("[" * 100_000)
    with pytest.raises(WeightsError, match="no JSON that can be read"):
        read_pack(folder)


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("head.coef", np.full((2, 4), np.nan, np.float32), "head.coef is not finite numbers"),
        ("head.coef", np.zeros((3, 4), np.float32), r"head.coef is not \(2, D\)"),
        ("familiar", np.zeros(4, np.float16), r"familiar is not \(n, D\)"),
        ("texts", np.zeros((2, 4), np.int32), "texts is not finite numbers"),
    ],
)
def test_arrays_that_no_export_writes_are_refused(
    folder: Path, name: str, rows: np.ndarray, message: str
) -> None:
    arrays = load_file(folder / TENSORS) | {name: rows}
    written = pack()
    head = {key[5:]: array for key, array in arrays.items() if key.startswith("head.")}
    forged = replace(
        written,
        head=replace(written.head, arrays=head),
        texts=arrays.get("texts"),
        familiar=replace(written.familiar, rows=arrays["familiar"]),
    )
    write_pack(forged, "", folder)  # with its seal, as somebody would who means harm
    with pytest.raises(WeightsError, match=message):
        read_pack(folder)


@pytest.mark.parametrize("width", [9, 11])
def test_a_head_of_another_width_is_refused_in_a_sentence(width: int) -> None:
    one = classifier()
    wide = np.zeros((2, width))
    wrong = replace(one, head=FittedLinear(wide, np.zeros(2), {"C": 1.0}))
    with pytest.raises(WeightsError, match=r"does not fit its models' features .*medfocus export"):
        wrong.predict(images(1))


def test_tensors_that_were_changed_are_refused(folder: Path) -> None:
    content = bytearray((folder / TENSORS).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS).write_bytes(content)
    with pytest.raises(WeightsError, match=r"is not the file that config\.json was written with"):
        read_pack(folder)
    (folder / TENSORS).unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        read_pack(folder)


def test_other_weights_of_the_encoder_are_refused(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"other weights of some: its .* has the SHA-256"):
        Classifier.load(folder)


def test_weights_that_are_not_here_say_what_to_pull() -> None:
    values = {"encoder": ClipConfig(model="nobody/no-such-model")}
    config = pack().config.model_copy(update=values)
    with pytest.raises(WeightsError, match="Run: medfocus models pull some"):
        found_again(find_weights, config.encoder, config.encoder_model, FileHashes())


def test_the_weights_that_a_pack_names_are_found(folder: Path) -> None:
    found = find_weights(EfficientNetLiteConfig(), FileHashes(), download=False)
    assert found is not None
    config = pack().config
    model = config.encoder_model.model_copy(update={"files": found.identity.files})
    again = found_again(find_weights, config.encoder, model, FileHashes())
    assert again.paths == found.paths


def test_paths_of_weights_mean_the_same_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert anchored(LiteClipConfig(checkpoint=Path("mine"))).checkpoint == tmp_path / "mine"
    assert anchored(ClipConfig(model="./mine")).model == str(tmp_path / "mine")
    assert anchored(ClipConfig()) == ClipConfig()
