"""What an encoder is."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import Encoded, FloatArray, Image


class Encoder(Protocol):
    """Turns pictures into embeddings.

    Contract:
        - `prepare` is the model's own resizing and cropping, exactly, without its
          normalisation: any ``(h, w, 3) uint8`` RGB image becomes ``(s, s, 3) uint8``. It needs
          no device and is called from several threads at once. Pictures may also come from
          elsewhere (`encoders.fit`), always of side s.
        - `encode` normalises and runs the model. A picture's answer does not depend on its
          neighbours (up to rounding of the arithmetic) and repeats exactly on one machine. On a
          CPU it is called from several threads at once.
        - Running out of device memory leaves as the framework's own exception: the caller
          halves the batch and tries again.
    """

    @property
    def batch_size(self) -> int:
        """Pictures a call that suit the model and device when the user names none."""

    @property
    def dim(self) -> int:
        """d, length of the pooled embedding."""

    @property
    def side(self) -> int:
        """s, height and width of the pictures that it takes, in pixels."""

    @property
    def token_grid(self) -> tuple[int, int] | None:
        """(gh, gw), rows and columns of the token grid; None if the model has no such grid."""

    def prepare(self, image: Image) -> Image:
        """The picture that the model sees, ``(s, s, 3) uint8``."""

    def encode(self, pictures: NDArray[Any]) -> Encoded:
        """Embeddings of prepared pictures, ``(n, s, s, 3) uint8``."""


@runtime_checkable
class LevelEncoder(Encoder, Protocol):
    """An `Encoder` that pools inside its network; ask with ``isinstance``."""

    @property
    def level_dims(self) -> tuple[int, ...]:
        """Dimensions of the levels (`pooling.level_indices`), early to late; () without any.

        None is above `pooling.level_width`: wider maps are `pooling.narrowed`.
        """

    def pool(
        self, pictures: NDArray[Any], covers: NDArray[np.uint8] | None
    ) -> dict[str, FloatArray]:
        """All that one forward pass gives of prepared pictures.

        Args:
            pictures: ``(n, s, s, 3) uint8``.
            covers: ``(n, s, s) uint8``, 255 where the ROI covers all of a pixel; a picture of
                zeros is pooled over as a whole. None without ROIs.

        Returns:
            By name: `pooled` ``(n, d) float32``; `levels` ``(n, sum of level_dims) float32``, the
            mean over space of each level's map, L2-normalised; with covers also `roi_pooled` and
            `roi_levels`, the same weighted by the cover. What the model has no maps for is left
            out.
        """

    def maps(self, pictures: NDArray[Any]) -> list[FloatArray]:
        """The levels' maps, ``(n, gh, gw, c) float32`` each, c of `level_dims`."""


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into embeddings of the same space as the images'.

    A dual encoder is an `Encoder` and a `TextEncoder`: ask with ``isinstance``.
    """

    @property
    def temperature(self) -> float:
        """Softmax temperature of the image-text similarity (CLIP: 1 / exp(logit_scale))."""

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """``(n, d) float32``, the text tower's projected features, not normalised."""
