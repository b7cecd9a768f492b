"""``medfocus demo``: every stage in one command, and again in no time."""

from pathlib import Path

from tests.stages.conftest import Medfocus

PROFILE = """\
masks: {segmenter: {name: threshold}}
embed: {encoder: {name: efficientnet-lite0}, focus: [segmented], views: [identity]}
probe: {rows: [{focus: [segmented]}], fractions: [100], seeds: 2}
"""


def test_a_demo_ends_with_the_table_the_agreement_and_what_to_type(medfocus: Medfocus) -> None:
    Path("quick.yaml").write_text(PROFILE)
    demo = ("demo", "--profile", "quick.yaml", "--train", "8", "--test", "4", "--workers", "1")
    first = medfocus(*demo)
    assert first.code == 0, first
    for number, stage in enumerate(("phantom", "masks", "embed", "probe", "report"), start=1):
        assert f"{number} of 5, {stage}" in first.out
    assert "linear on segmented" in first.out
    assert "mean IoU of the ROI with the phantom's annotation: 0." in first.out
    assert "(rule nested, 9 images with a lesion" in first.out
    page = first.out.split("open in a browser: ")[1].strip()
    assert page == "cache/phantom-brain/report/index.html"
    written = Path(page).read_text()
    assert "<!doctype html>" in written.lower()
    assert "These images are phantoms: drawings, not patients." in written
    assert "make masks DATASET=mine DATA=path/to/images PROFILE=quick.yaml" in first.out

    second = medfocus(*demo)
    assert second.code == 0
    assert second.out.count("nothing to do") == 5
    for line in first.out.splitlines():
        if line.startswith((" linear on", "mean IoU")):
            assert line in second.out


def test_a_demo_does_not_touch_images_of_the_users(medfocus: Medfocus) -> None:
    Path("data/phantom-brain").mkdir(parents=True)
    Path("data/phantom-brain/mine.png").touch()
    answer = medfocus("demo")
    assert answer.code == 1
    assert "was not drawn by MedFocus. Name another folder with --data" in answer.err
