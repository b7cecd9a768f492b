"""The space of w dimensions that images and class texts share, in which the fusion trains."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.zeroshot import tiled
from medfocus_pipeline.types import IntArray

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """A training set in the shared space; rows are the views of the images, image by image.

    Attributes:
        basis: ``(D, w) float32``, B: orthonormal columns.
        x: ``(n * v, w) float32``, I B.
        length: ``(n * v,) float32``, |I|.
        labels: ``(n * v,) int64``.
        texts: ``(K, w) float32``, class texts in the space; None if there are none.
        n_classes: K.
    """

    basis: "Tensor"
    x: "Tensor"
    length: "Tensor"
    labels: "Tensor"
    texts: "Tensor | None"
    n_classes: int

    @classmethod
    def of(cls, train: TrainingSet, *, width: int, generator: "Generator") -> "Space":
        """The space of a training set. No label is read for B, so that folds may share it.

        Raises:
            DataError: images and texts are not of one dual encoder.
        """
        import torch

        _, views, dim = train.features.shape
        images = torch.tensor(train.features.reshape(-1, dim))
        texts = torch.zeros(0, dim)
        if train.text is not None:
            texts = torch.from_numpy(tiled(train.text, dim=dim))
        basis = shared_basis(
            texts - texts.mean(dim=0) if len(texts) else texts,
            images - images.mean(dim=0),
            width=width,
            generator=generator,
        )
        return cls(
            basis=basis,
            x=images @ basis,
            length=images.norm(dim=1),
            labels=torch.from_numpy(np.repeat(train.labels, views)),
            texts=texts @ basis if len(texts) else None,
            n_classes=train.n_classes,
        )

    def start(self, rows: IntArray) -> tuple["Tensor", "Tensor"]:
        """t, ``(K, w)``, and (mean I) B, ``(1, w)``, of a part of the rows.

        Without class texts, those to be learned begin as the classes' mean images; a class
        without images has the mean of all.
        """
        x, labels = self.x[rows], self.labels[rows]
        origin = x.mean(dim=0, keepdim=True)
        texts = self.texts
        if texts is None:
            texts = origin.repeat(self.n_classes, 1)
            for label in np.unique(labels.numpy()):
                texts[label] = x[labels == label].mean(dim=0)
        return texts - texts.mean(dim=0), origin


def shared_basis(
    texts: "Tensor", images: "Tensor", *, width: int, generator: "Generator"
) -> "Tensor":
    """B, ``(D, w)``: first the span of the class texts, then where the images mostly vary.

    The latter is the leading singular subspace of the rows, by randomised subspace iteration
    (Halko, Martinsson and Tropp 2011, algorithm 4.4). w is `width`, or D if that is smaller.
    """
    import torch

    sketch = torch.randn((images.shape[1], width), generator=generator)
    for _ in range(2):
        sketch = torch.linalg.qr(images.T @ (images @ sketch)).Q
    basis: Tensor = torch.linalg.qr(torch.cat([texts.T, sketch], dim=1)).Q
    return basis[:, :width].contiguous()
