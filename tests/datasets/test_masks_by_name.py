"""Masks by their names, held against a plain search over all names."""

import re
from pathlib import PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from medfocus_pipeline.columns import id_array
from medfocus_pipeline.datasets.masks_by_name import MAY_BE_MASK, masks_of
from medfocus_pipeline.datasets.names import without_ending, without_endings

FOLDERS = st.sampled_from(["", "a/", "images/", "masks/", "Mask/", "a/labelsTr/", "imagesTr/b/"])
STEMS = st.sampled_from(["1", "1_0000", "ŕoi", "x.y", "_mask", "a mask", "1_SEG"])
CALLED = st.sampled_from(["", "", "_mask", "-seg_1", "_GT", " roi", ".mask 2", "_masks_mask"])
ENDINGS = st.sampled_from([".png", ".tif", ".nii.gz", ".gz", "", ".", ".a\nb"])
PATHS = st.builds("{}{}{}{}".format, FOLDERS, STEMS, CALLED, ENDINGS)

BEHIND = re.compile(r"(.+?)[ _.-]+(masks?|seg|segmentation|gt|groundtruth|roi)([ _-]?\d+)?$", re.I)
BESIDE = {"mask", "masks", "labelstr"}


def image_of(path: str, paths: list[str]) -> str | None:
    """The image of a mask, by what BUSI, COVID-19 Radiography and nnU-Net call theirs."""
    pure = PurePosixPath(without_ending(path))
    behind = BEHIND.match(pure.name)
    stems = [str(pure.with_name(behind[1]))] if behind else []
    names = [pure.name, f"{pure.name}_0000", *([behind[1]] if behind else [])]
    for place, folder in enumerate(pure.parts[:-1]):
        if folder.casefold() in BESIDE:
            for instead in ([], ["images"], ["image"], ["imagesTr"], ["imagesTs"]):
                folders = [*pure.parts[:place], *instead, *pure.parts[place + 1 : -1]]
                stems += ["/".join([*folders, name]) for name in names]
    found = (other for stem in stems for other in paths if without_ending(other) == stem)
    return next(found, None)


@given(st.lists(PATHS, unique=True).map(sorted))
def test_masks_are_those_of_a_plain_search(paths: list[str]) -> None:
    masks, images = masks_of(id_array(paths))
    expected = {path: image_of(path, paths) for path in paths}
    assert {paths[mask]: paths[image] for mask, image in zip(masks, images, strict=True)} == {
        path: image for path, image in expected.items() if image not in (None, path)
    }
    assert all(re.search(MAY_BE_MASK, paths[mask]) for mask in masks)


@given(st.lists(PATHS))
def test_an_ending_is_what_pathlib_takes_for_one(paths: list[str]) -> None:
    bare = without_endings(id_array(paths)).to_pylist()
    assert bare == [without_ending(path) for path in paths]
    for path, stem in zip(paths, bare, strict=True):
        pure = PurePosixPath(path.removesuffix(".gz"))
        assert PurePosixPath(stem) == (pure if path.endswith(".") else pure.with_suffix(""))
