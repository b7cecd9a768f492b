"""How well a dual encoder tells phantoms apart by the card's prompts alone."""

import numpy as np

from medfocus_pipeline.datasets.phantoms.phantom import draw
from medfocus_pipeline.encoders.protocol import Encoder, TextEncoder
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.training.prompts import card_of
from medfocus_pipeline.vectors import class_means, normalise


def zero_shot_accuracy(encoder: Encoder, kind: str, *, seed: int, count: int) -> float:
    """Share of the phantoms whose class text is the most similar, in [0, 1].

    Args:
        encoder: a dual encoder.
        kind: a medical kind.
        seed: of the phantoms; not the one that was trained on.
        count: number of phantoms, classes in turn.

    Raises:
        ConfigError: the encoder has no text tower.
    """
    if not isinstance(encoder, TextEncoder):
        raise ConfigError("Zero-shot classification needs a dual encoder: use lite-clip or clip.")
    card = card_of(kind)
    texts = class_means(map(encoder.encode_text, card.prompts()))
    phantoms = [draw(kind, seed, index) for index in range(count)]
    labels = np.array([card.class_index[one.label.casefold()] for one in phantoms])
    found: list[int] = []
    for start in range(0, count, encoder.batch_size):
        batch = phantoms[start : start + encoder.batch_size]
        pictures = np.stack([encoder.prepare(one.image) for one in batch])
        found += (normalise(encoder.encode(pictures).pooled) @ texts.T).argmax(axis=1).tolist()
    return float(np.mean(np.array(found) == labels))
