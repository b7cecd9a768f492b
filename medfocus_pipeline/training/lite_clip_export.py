"""The trained lite-clip as a folder that `load_lite_clip` reads: its projection moves to the texts.

An image is compared by ``(W f + b) . t``. With u, for which ``f . u`` is 1 as nearly as least
squares can make it, that is ``f . (W^T + u b^T) t``: one matrix more in the text tower's own
projection, and images need none. Lengths change by it, so the temperature is adapted.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.encoders.lite_clip import CONFIG, TEMPERATURE, TENSORS, TOKENIZER
from medfocus_pipeline.files import replacing
from medfocus_pipeline.sealed import canonical_json
from medfocus_pipeline.training.checkpoint import save_weights
from medfocus_pipeline.training.lessons import Lesson
from medfocus_pipeline.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

_RIDGE = 0.05
"""Of the least squares, as a share of the features' variance: u is to fit other images too."""


def export(out: Path, tokenizer_file: Path, model: Any, lesson: Lesson) -> None:
    """Writes the folder.

    Args:
        out: the folder.
        tokenizer_file: of the training.
        model: as `lite_clip.make_model` makes it, in evaluation mode.
        lesson: what it learned from.

    Raises:
        WeightsError: a weight is not finite.
    """
    projection, temperature = moved(model, lesson)
    tensors = {**model.text.state_dict(), TEMPERATURE: temperature}
    tensors["text_projection.weight"] = projection
    save_weights(out / TENSORS, tensors)
    sizes = model.text.config.to_diff_dict() | {"projection_dim": len(projection)}
    sizes.pop("transformers_version")  # it would change the file and nothing in it
    contents = {
        TOKENIZER: tokenizer_file.read_bytes(),
        CONFIG: canonical_json(sizes) + b"\n",
    }
    for name, content in contents.items():
        with replacing(out / name) as temporary:
            temporary.write_bytes(content)


def moved(model: Any, lesson: Lesson) -> tuple["Tensor", "Tensor"]:
    """The text tower's projection with that of the images in it, and the temperature for it.

    Returns:
        ``(d, width)`` and ``()``, float32.
    """
    import torch

    features = torch.from_numpy(lesson.features * lesson.spread + lesson.origin)
    names = [group.names[0] for group in lesson.groups]
    tokens = lesson.tokenizer(names, padding=True, return_tensors="pt").input_ids
    with torch.no_grad():
        weight = model.image.weight / lesson.spread
        bias = model.image.bias - weight @ torch.from_numpy(lesson.origin)
        unit = torch.from_numpy(constant(features.numpy()))
        onto = weight.T + unit[:, None] * bias
        texts = model.text(tokens).text_embeds
        images = (features @ weight.T + bias).norm(dim=1) / features.norm(dim=1)
        lengths = texts.norm(dim=1) / (texts @ onto.T).norm(dim=1)
        temperature = torch.exp(-model.scale) * images.mean() * lengths.mean()
        return onto @ model.text.text_projection.weight, temperature


def constant(features: FloatArray) -> FloatArray:
    """u, ``(d,) float32``, whose product with every row of ``(n, d)`` features is nearly 1."""
    moments = features.T.astype(np.float64) @ features / len(features)
    moments[np.diag_indices_from(moments)] += _RIDGE * features.var()
    unit: FloatArray = np.linalg.solve(moments, features.mean(axis=0)).astype(np.float32)
    return unit
