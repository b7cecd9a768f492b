"""The pipeline as a user runs it, on made-up pictures and the imagenet profile."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medfocus_pipeline.evaluation.scores import read_scored
from tests.stages.conftest import EMBED, PROBE, Medfocus, call, draw, make_images


def stores(cache: Path = Path("cache/shapes")) -> set[str]:
    return {str(path.parent.relative_to(cache)) for path in cache.rglob("store.json")}


def test_three_commands_lead_from_a_folder_to_a_table(medfocus: Medfocus, images: Path) -> None:
    first = medfocus("masks", "shapes", "--data", images, "--profile", "imagenet")
    assert "masks with threshold: 40 images" in first.out
    assert "classes: disc 20, square 20" in first.out
    second = medfocus(*EMBED)
    assert "shapes: profile imagenet" in second.out  # the data set used last, and it is printed
    assert second.out.count("40 images in") == 2
    third = medfocus(*PROBE)
    for line in ("linear on original", "linear on segmented", "fusion on original+segmented"):
        assert line in third.out
    assert "clean (" not in third.out  # no test image is also a training image
    assert "class embeddings were learned" in third.out
    assert [first.code, second.code, third.code] == [0, 0, 0]


def test_the_same_commands_again_do_nothing(done: Medfocus) -> None:
    done("scan")  # the images were copied to another folder
    before = {path: path.stat().st_mtime_ns for path in Path("cache/shapes").rglob("*.parquet")}
    for command in (("masks",), EMBED, PROBE):
        assert "nothing to do" in done(*command).out
    after = {path: path.stat().st_mtime_ns for path in Path("cache/shapes").rglob("*.parquet")}
    assert after == before


def test_results_open_in_pandas_and_duckdb(done: Medfocus) -> None:
    folder = Path("cache/shapes/results")
    results = read_scored(folder).to_pandas()
    assert len(pd.read_parquet(folder / "results.parquet")) == len(results) == 4 * 2 * 2
    assert results["accuracy"].between(0, 1).all()
    predictions = duckdb.sql(
        f"select run_key, avg((class_index = predicted)::double) as accuracy, count(*) as n "
        f"from '{folder}/predictions.parquet' group by run_key"
    ).df()
    joined = results.merge(predictions, on="run_key", suffixes=("", "_again"))
    assert (joined["n"] == 16).all()
    assert joined["accuracy"].to_list() == pytest.approx(joined["accuracy_again"].to_list())


def test_another_roi_rule_segments_nothing_and_embeds_what_looks_at_the_region(
    done: Medfocus,
) -> None:
    before = stores()
    answer = done(*EMBED, "--roi", "largest")
    assert answer.out.count("40 images in") == 2
    new = sorted(stores() - before)
    assert ["original-largest" in new[0], "segmented-largest" in new[1]] == [True, True]


def test_another_segmenter_setting_runs_masks_and_what_follows(done: Medfocus) -> None:
    before = stores()
    assert "40 images" in done("masks", "--set", "segmenter.smoothing=1").out
    assert done(*EMBED).out.count("40 images in") == 2
    assert {name.split("/")[0] for name in stores() - before} == {"masks", "embeddings"}
    again = done(*PROBE).out
    assert "16 runs fitted" in again


def test_going_back_to_an_earlier_setting_computes_nothing(done: Medfocus) -> None:
    done("masks", "--set", "segmenter.smoothing=1")
    assert "nothing to do" in done("masks", "--profile", "imagenet").out
    assert "nothing to do" in done(*EMBED).out


def test_a_command_goes_on_with_the_settings_of_its_last_run(done: Medfocus) -> None:
    before = stores()
    Image.fromarray(draw(0, 700)).save("images/train/disc/new.png")
    done("masks", "--set", "segmenter.smoothing=1")
    Image.fromarray(draw(0, 701)).save("images/train/disc/newer.png")
    again = done("masks")
    assert "settings of the last run" in again.out
    assert "threshold: 1 image" in again.out
    (new,) = stores() - before
    assert new in again.out


def test_other_images_of_equal_names_sizes_and_times_are_other_images(
    done: Medfocus, tmp_path: Path
) -> None:
    for name, grey in (("one", 10), ("two", 200)):
        for kind in ("a", "b"):
            path = tmp_path / name / kind / "i.bmp"
            path.parent.mkdir(parents=True)
            Image.new("L", (20, 20), grey + (kind == "b")).save(path)
            os.utime(path, (1, 1))
    first = done("masks", "bmp", "--data", "one", "--profile", "imagenet")
    assert "2 images in" in first.out
    assert "2 images in" in done("masks", "bmp", "--data", "two").out


def test_a_card_is_found_again_from_another_folder(
    medfocus: Medfocus, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = tmp_path / "data" / "shapes.yaml"
    card.parent.mkdir()
    card.write_text(
        "title: Shapes\nsplits: {train: train, test: test}\n"
        "classes:\n- {name: disc, prompt: a disc}\n- {name: square, prompt: a square}\n"
    )
    assert "Shapes" in medfocus("scan", "shapes", "--data", images).out
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = call("scan", "shapes", "--cache", tmp_path / "cache", cwd=elsewhere)
    assert "Shapes" in again.out
    card.unlink()
    gone = call("scan", "shapes", "--cache", tmp_path / "cache", cwd=elsewhere)
    assert gone.code == 2
    assert "is gone. Put it back" in gone.err


def test_an_image_that_breaks_after_the_scan_is_left_out_for_good(done: Medfocus) -> None:
    Image.fromarray(draw(0, 800)).save("images/train/disc/late.png")
    path = Path("images/train/disc/late.png")
    assert done("scan").code == 0
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:60].ljust(stat.st_size, b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    answer = done("masks")
    assert answer.code == 0
    assert "1 file was left out" in answer.out
    assert "nothing to do" in done(*EMBED).out
    probed = done(*PROBE)
    assert probed.code == 0
    assert "'train/disc/late.png'" in probed.out


def test_lost_predictions_are_made_again(done: Medfocus) -> None:
    Path("cache/shapes/results/predictions.parquet").unlink()
    assert "16 runs fitted" in done(*PROBE).out
    assert len(pd.read_parquet("cache/shapes/results/predictions.parquet")) == 16 * 16


def test_agreement_with_annotations_follows_the_annotations(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    root = make_images(tmp_path / "marked", train=3)
    (root / "card.yaml").write_text(
        'title: Marked\nannotation: "{stem}_mask.png"\n'
        "classes:\n- {name: disc, prompt: a disc}\n- {name: square, prompt: a square}\n"
    )
    for path in [*root.rglob("*.png")]:
        bright = np.asarray(Image.open(path)) > 120
        Image.fromarray(bright).save(path.with_name(f"{path.stem}_mask.png"))
    good = medfocus("masks", "marked", "--data", root, "--profile", "imagenet").out
    assert "annotations of 6 images" in good
    assert float(good.split("best: ")[1].split()[0]) > 0.7
    for path in root.rglob("*_mask.png"):
        mask = np.zeros((64, 64), bool)
        mask[:4, :4] = True
        Image.fromarray(mask).save(path)
    again = medfocus("masks").out
    assert "nothing to do" in again
    assert float(again.split("best: ")[1].split()[0]) < 0.1


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe", "--fractions", ","),
        ("probe", "--fractions", "0"),
        ("probe", "--seeds", "0"),
        ("probe", "--row", "foo:original"),
        ("probe", "--row", "linear"),
        ("masks", "--set", "a=["),
        ("masks", "--set", "frame"),
        ("masks", "--set", "segmenter.smoothing=.inf"),
        ("embed", "--roi", "text"),
        ("masks", "--cache", "images/train/disc/disc 0.png"),
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_nonsense_is_one_message(done: Medfocus, arguments: tuple[str, ...]) -> None:
    answer = done(*arguments)
    assert answer.code == 2
    assert answer.err.startswith("Error: ")
    assert "Traceback" not in answer.err


def test_one_more_fraction_fits_that_fraction_only(done: Medfocus) -> None:
    answer = done("probe", "--fractions", "20,50,100", "--seeds", "2", "--workers", "1")
    assert "8 runs fitted" in answer.out


def test_more_shots_than_images_take_them_all(done: Medfocus) -> None:
    answer = done(
        "probe", "--fractions", "100", "--shots", "1,99", "--seeds", "1", "--workers", "1"
    )
    assert answer.code == 0
    results = pd.read_parquet("cache/shapes/results/results.parquet")
    assert set(results.loc[results["shots"].notna(), "n_train"]) == {2, 24}


def test_ten_new_images_compute_ten_rows(done: Medfocus) -> None:
    for number in range(10):
        path = Path("images/train/disc") / f"new {number}.png"
        Image.fromarray(draw(0, 500 + number)).save(path)
    assert "threshold: 10 images" in done("masks").out
    assert done(*EMBED).out.count(": 10 images in") == 2


def test_a_new_mtime_computes_nothing(done: Medfocus) -> None:
    for path in Path("images").rglob("*.png"):
        os.utime(path, (1, 1))
    assert "nothing to do" in done("masks").out
    assert "nothing to do" in done(*EMBED).out
    assert "nothing to do" in done(*PROBE).out


def test_stage_two_needs_neither_images_nor_weights(
    done: Medfocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree("images")
    monkeypatch.setattr("medfocus_pipeline.efficientnet.find_spec", lambda _: None)
    monkeypatch.setattr("medfocus_pipeline.encoders.find_weights", lambda *_, download: None)
    answer = done("probe", "--fractions", "20", "--seeds", "2", "--workers", "1")
    assert "8 runs fitted" in answer.out, answer


def test_a_missing_mask_store_says_what_to_run(medfocus: Medfocus, images: Path) -> None:
    answer = medfocus("embed", "shapes", "--data", images, "--profile", "imagenet")
    assert answer.code == 1
    assert "40 of 40 images have no masks of threshold. Run: make masks" in answer.err


def test_missing_embeddings_say_what_to_run(medfocus: Medfocus, images: Path) -> None:
    medfocus("masks", "shapes", "--data", images, "--profile", "imagenet")
    answer = medfocus("probe")
    assert answer.code == 1
    assert "Run: make embed" in answer.err


def test_a_focus_that_was_not_embedded_says_what_to_run(done: Medfocus) -> None:
    answer = done("probe", "--row", "linear:crop")
    assert answer.code == 1
    assert 'Run: make embed ARGS="--focus original,segmented,crop"' in answer.err


def test_every_focus_mode_goes_through(medfocus: Medfocus, images: Path) -> None:
    medfocus("masks", "shapes", "--data", images, "--profile", "imagenet")
    modes = "original,segmented,overlay,mask,crop,dimmed"
    assert medfocus(*EMBED, "--focus", modes).code == 0
    answer = medfocus("probe", "--row", "linear:crop+mask", *PROBE[1:])
    assert "linear on crop+mask" in answer.out


def test_status_tells_done_missing_and_stale(done: Medfocus) -> None:
    answer = done("status")
    assert answer.out.count("40 of 40 rows") == 3
    assert "compute" not in answer.out
    assert answer.out.count("4 of 4 runs") == 4
    done("masks", "--set", "segmenter.smoothing=1")
    answer = done("status")
    assert "compute 40 rows" in answer.out
    assert "stores are of other settings" in answer.out


def test_cache_lists_verifies_repairs_and_prunes(done: Medfocus) -> None:
    assert "masks" in done("cache", "ls").out
    assert done("cache", "verify").code == 0
    victim = next(Path("cache/shapes/embeddings").rglob("pooled/c/0/*/*"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    broken = done("cache", "verify")
    assert broken.code == 1
    assert "1 problem" in broken.out
    assert done("cache", "verify", "--repair").code == 0
    assert done(*EMBED).out.count("40 images in") == 1
    assert done("cache", "verify").code == 0
    done("masks", "--set", "segmenter.smoothing=1")
    done(*EMBED)
    kept = done("cache", "prune")
    assert "Nothing was removed" in kept.out
    assert "removed" in done("cache", "prune", "--yes").out
    assert len(stores()) == 3


def test_a_truncated_shard_is_rebuilt_with_a_message(done: Medfocus) -> None:
    victim = next(Path("cache/shapes/masks").rglob("masks/c/0/*/*/*"))
    victim.write_bytes(victim.read_bytes()[:-5])
    answer = done("masks")
    assert "40 images in" in answer.out
    assert "shard 0 will be computed again" in answer.err


def test_unreadable_images_are_counted_and_named_and_strict_fails(
    medfocus: Medfocus, images: Path
) -> None:
    folder = images / "train" / "disc"
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no image")
    whole = (folder / "disc 0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    common = ("shapes", "--data", images, "--profile", "imagenet")
    answer = medfocus("masks", *common)
    assert answer.code == 0
    assert "3 files were left out" in answer.out
    assert "empty.png" in answer.out
    assert medfocus("masks", *common, "--strict").code == 1


def test_names_with_spaces_quotes_unicode_and_newlines_work(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    root = make_images(tmp_path / "häng \"die\" 'Bilder'", train=3)
    for number, name in enumerate(["neu\nzeile.png", 'quo"te.png', "日本 語.png", "[red]bold.png"]):
        Image.fromarray(draw(0, 900 + number)).save(root / "disc" / name)
    assert medfocus("masks", "odd", "--data", root, "--profile", "imagenet").code == 0
    assert "10 images in" in medfocus(*EMBED, "--focus", "original").out


def test_a_constant_image_falls_back_to_the_whole(medfocus: Medfocus, images: Path) -> None:
    Image.new("L", (30, 20), 0).save(images / "train" / "disc" / "black.png")
    Image.new("L", (1, 1), 7).save(images / "train" / "disc" / "tiny.png")
    answer = medfocus("masks", "shapes", "--data", images, "--profile", "imagenet")
    assert "2 images have no candidate: their ROI is the whole image" in answer.out
    assert medfocus(*EMBED).code == 0
    index = pd.concat(
        pd.read_parquet(path) for path in Path("cache/shapes/embeddings").glob("*segmented*/index")
    )
    assert index["fallback"].sum() == 2
    assert (index.loc[index["fallback"], "roi_area"] == 1).all()


def test_regions_that_the_encoder_does_not_see_are_counted(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    for number in range(4):
        wide = np.full((64, 192), 40, np.uint8)
        wide[24:40, -20:-4] = 220
        wide[0, number] = 41
        folder = tmp_path / "wide" / f"class {number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(wide).save(folder / f"{number}.png")
    masks = ("masks", "wide", "--data", "wide", "--profile", "imagenet")
    assert medfocus(*masks).code == 0
    embed = ("embed", "--focus", "segmented", "--views", "identity")
    hidden = medfocus(*embed, "--fit", "crop")
    assert "4 images have their region mostly outside what the encoder sees" in hidden.out
    assert "mostly outside" not in medfocus(*embed, "--fit", "squeeze").out


def test_no_data_set_named_and_none_remembered(medfocus: Medfocus) -> None:
    answer = medfocus("embed")
    assert answer.code == 2
    assert "Name one: make masks DATASET=brain" in answer.err


def test_a_missing_data_folder_is_one_sentence(medfocus: Medfocus) -> None:
    answer = medfocus("masks", "brain", "--profile", "imagenet")
    assert answer.code == 1
    assert "DATA=path/to/images" in answer.err
    assert "Traceback" not in answer.err


def test_paper_weights_that_are_not_here_are_one_sentence(
    medfocus: Medfocus, images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    answer = medfocus("masks", "shapes", "--data", images)
    assert answer.code == 1
    message = " ".join(answer.err.split())
    assert "medfocus models pull facebook/sam2.1-hiera-large" in message
    assert "PROFILE=offline" in message
    assert "Traceback" not in message


def test_an_unknown_choice_names_the_known_ones(medfocus: Medfocus, images: Path) -> None:
    common = ("shapes", "--data", images, "--profile", "imagenet")
    assert "'sam2', 'threshold'" in medfocus("masks", *common, "--segmenter", "sam9").err
    assert "'original', 'segmented'" in medfocus("embed", *common, "--focus", "blur").err
    refused = medfocus("scan", "shapes", "--profile", "online").err
    assert "imagenet, medclip, medsam, offline, paper" in refused


def test_one_class_only_is_one_sentence(medfocus: Medfocus, tmp_path: Path) -> None:
    root = make_images(tmp_path / "one", train=4)
    shutil.rmtree(root / "square")
    medfocus("masks", "one", "--data", root, "--profile", "imagenet")
    medfocus(*EMBED, "--focus", "original")
    answer = medfocus("probe", "--row", "linear:original")
    assert answer.code == 1
    assert "class" in answer.err


def test_a_csv_is_a_data_set(medfocus: Medfocus, tmp_path: Path) -> None:
    root = make_images(tmp_path / "loose", train=6)
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted(root.rglob("*.png"))]
    (root / "list.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    answer = medfocus("masks", "listed", "--data", root / "list.csv", "--profile", "imagenet")
    assert "12 images" in answer.out


def test_nothing_to_do_takes_under_a_second_and_no_torch(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    """Of CPU time, whatever else runs; the bound is generous: `make bench` prints the time."""
    root = make_images(tmp_path / "many", train=100, size=16)
    common = ("many", "--data", str(root), "--profile", "imagenet")
    assert medfocus("masks", *common).code == 0
    assert medfocus("embed", "--focus", "original", "--views", "identity").code == 0
    for command in ("masks", "embed"):
        extra = ["--focus", "original", "--views", "identity"] if command == "embed" else []
        code = f"import sys; sys.argv = ['medfocus', '{command}', *{extra}]\n" + _REPORT
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        assert "nothing to do" in run.stdout
        loaded = set(json.loads(run.stdout.splitlines()[-1]))
        assert not loaded & {"torch", "zarr", "sklearn", "transformers", "timm", "sam2"}
        assert seconds < 5


def test_a_probe_with_nothing_to_do_imports_no_heavy_library(
    done: Medfocus, tmp_path: Path
) -> None:
    assert done("scan").code == 0  # the images were copied to another folder
    code = f"import sys; sys.argv = {['medfocus', *PROBE]}\n" + _REPORT
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "nothing to do" in run.stdout
    loaded = set(json.loads(run.stdout.splitlines()[-1]))
    assert not loaded & {"torch", "zarr", "sklearn", "transformers", "timm", "pandas", "scipy"}


_REPORT = """
from medfocus_pipeline.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code
import json
print(json.dumps(sorted(sys.modules)))
"""


def test_every_command_has_help_with_an_example(medfocus: Medfocus) -> None:
    commands = ["scan", "masks", "embed", "probe", "status", "doctor"]
    commands += ["phantom", "profiles", "demo"]
    commands += ["cache ls", "cache verify", "cache prune", "models list", "models pull"]
    for command in commands:
        answer = medfocus(*command.split(), "--help")
        assert answer.code == 0
        assert f"Example: medfocus {command}" in answer.out


def test_doctor_finds_the_imagenet_profile_usable(medfocus: Medfocus) -> None:
    answer = medfocus("doctor", "--profile", "imagenet")
    assert answer.code == 0, answer.out
    assert "everything is in place" in answer.out


def test_models_list_names_the_weights(medfocus: Medfocus) -> None:
    answer = medfocus("models", "list")
    assert "facebook/sam2.1-hiera-tiny" in answer.out
    assert "openai/clip-vit-base-patch16" in answer.out


def test_export_takes_the_row_that_training_data_ranks_first(done: Medfocus) -> None:
    listed = done("export", "--list").out
    assert re.search(r"\d %.* of 16  --head linear --focus segmented --fraction 100", listed)
    answer = done("export", "--out", "pack")
    assert answer.code == 0, answer
    said = answer.out.split("the first is taken:\n")[1].split("\n")
    ranked = [re.match(r"  +([\d.]+) %  (.+)", line) for line in said[:4]]
    shares = [float(one[1]) for one in ranked if one]
    assert len(shares) == 4
    assert shares == sorted(shares, reverse=True)
    assert f"export: {ranked[0] and ranked[0][2]}, 100 %" in answer.out
