"""What the stages would have stored, to the last bit."""

from dataclasses import replace

import numpy as np
import pytest

from medfocus_pipeline import embedding, image_roi, segmentation
from medfocus_pipeline.classifier.stage_one import features
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.types import FeaturePart, FloatArray, RoiRule
from medfocus_pipeline.vectors import joined
from tests.classifier.packs import FAMILIAR, MASKS, images, stage_one
from tests.fakes import FakeDualEncoder, FakeEncoder, FakeSegmenter, blank

IMAGES = [*images(7), blank((12, 10)), *images(2, size=(30, 16))]


def stored(rule: RoiRule, *, similarity: image_roi.Similarity | None = None) -> FloatArray:
    """The features as masks and embed compute them, image by image."""
    models = stage_one()
    by_name = {str(number): image for number, image in enumerate(IMAGES)}
    masks = segmentation.job(FakeSegmenter(), MASKS, by_name.__getitem__, batch_size=1, workers=1)
    blocks = [masks.compute([masks.load(name)]) for name in by_name]
    found = {
        name: segmentation.candidates_at(block.arrays, block.columns, 0)
        for name, block in zip(by_name, blocks, strict=True)
    }
    arrays = {}
    for config in models.modes:
        job = embedding.job(
            FakeEncoder(),
            config.model_copy(update={"roi": rule}),
            by_name.__getitem__,
            found.__getitem__ if embedding.needs_masks(config) else None,
            similarity=similarity,
            batch_size=1,
            workers=1,
        )
        rows = [job.compute([job.load(name)]).arrays for name in by_name]
        arrays[config.focus] = {
            name: np.concatenate([row[name] for row in rows]) for name in rows[0]
        }
    own = arrays["segmented"]
    return joined([[arrays["original"]["pooled"]], [own["pooled"]], [own["roi_pooled"]]])


@pytest.mark.parametrize("batch_size", [1, 4, None])
@pytest.mark.parametrize("rule", ["best", "union"])
def test_features_are_those_that_the_stages_store(rule: RoiRule, batch_size: int | None) -> None:
    models = stage_one(batch_size=batch_size)
    models = replace(models, embed=models.embed.model_copy(update={"roi": rule}))
    encoded = models.encoded(IMAGES, models.regions(IMAGES))
    np.testing.assert_array_equal(features(encoded, FAMILIAR), stored(rule))


def test_the_rule_text_compares_with_the_class_texts() -> None:
    texts = np.eye(3, dtype=np.float32)
    similarity = image_roi.text_similarity(FakeDualEncoder(), texts, fit="squeeze")
    models = stage_one()
    models = replace(
        models, embed=models.embed.model_copy(update={"roi": "text"}), similarity=similarity
    )
    encoded = models.encoded(IMAGES, models.regions(IMAGES))
    expected = stored("text", similarity=similarity)
    np.testing.assert_array_equal(features(encoded, FAMILIAR), expected)


def test_an_image_without_a_candidate_falls_back_to_all_of_it() -> None:
    [roi] = stage_one().regions([blank((12, 10))])
    assert roi.fallback
    assert roi.mask.all()


def test_without_a_region_in_the_features_nothing_is_segmented() -> None:
    models = replace(stage_one(parts=(FeaturePart("original"),)), masks=None, segmenter=None)
    [roi] = models.regions(images(1))
    assert roi.mask.all()
    assert not roi.fallback


def test_an_embedding_that_is_not_finite_is_refused() -> None:
    rows = np.full((1, 1, 3), np.inf, np.float16)
    with pytest.raises(DataError, match="embedding of original"):
        features({"original": {"pooled": rows}}, (FeaturePart("original"),))
