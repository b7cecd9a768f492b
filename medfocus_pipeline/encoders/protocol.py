"""What an encoder is."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from medfocus_pipeline.types import Encoded, FloatArray, Image, Mask


class Encoder(Protocol):
    """Turns pictures into embeddings.

    Contract:
        - `prepare` is the model's own resizing and cropping, exactly, without its
          normalisation: any ``(h, w, 3) uint8`` RGB image becomes ``(s, s, 3) uint8``. It needs
          no device and is called from several threads at once.
        - `prepare_mask` takes a mask of the same image through the same geometry and returns
          the share of each token's cell that it covers.
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
    def token_grid(self) -> tuple[int, int] | None:
        """(gh, gw), rows and columns of the token grid; None if the model has no such grid."""

    def prepare(self, image: Image) -> Image:
        """The picture that the model sees, ``(s, s, 3) uint8``."""

    def prepare_mask(self, mask: Mask) -> FloatArray:
        """``(gh, gw) float32`` in [0, 1], cover of each token; needs a token grid."""

    def encode(self, pictures: NDArray[Any]) -> Encoded:
        """Embeddings of prepared pictures, ``(n, s, s, 3) uint8``."""


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
