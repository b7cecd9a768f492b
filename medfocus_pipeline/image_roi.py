"""The ROI of an image with its candidates, and the similarity that the rule `text` needs."""

import threading
from collections.abc import Callable

import numpy as np

from medfocus_pipeline.config import EmbedConfig
from medfocus_pipeline.encoders.fit import fitted
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.masks.focus import focus
from medfocus_pipeline.masks.roi import choose_roi
from medfocus_pipeline.types import Candidates, Fit, FloatArray, Image, Roi

Similarity = Callable[[Image, Candidates], FloatArray]


def region(
    image: Image, found: Candidates, config: EmbedConfig, similarity: Similarity | None
) -> Roi:
    """The ROI of an image with its candidates.

    Args:
        similarity: for the ROI rule `text`, see `text_similarity`.
    """
    scores = similarity(image, found) if similarity and len(found) else None
    return choose_roi(found, config.roi, size=image.shape[:2], similarity=scores)


def text_similarity(encoder: Encoder, texts: FloatArray, *, fit: Fit) -> Similarity:
    """Similarity of each candidate's crop with the class text it fits best.

    Args:
        texts: ``(K, d) float32``, L2-normalised class texts.
        fit: how a crop becomes the encoder's square.

    Returns:
        A function of an image and its candidates that gives ``(k,) float32`` cosines;
        safe to call from several threads.
    """
    lock = threading.Lock()

    def similarity(image: Image, found: Candidates) -> FloatArray:
        rois = (
            choose_roi(found[index], "best", size=image.shape[:2]) for index in range(len(found))
        )
        pictures = np.stack([fitted(focus(image, roi, "crop"), encoder, fit) for roi in rois])
        with lock:
            rows = encoder.encode(pictures).pooled
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = rows / np.maximum(norms, np.finfo(np.float32).tiny)
        best: FloatArray = (unit @ texts.T).max(axis=1)
        return best

    return similarity
