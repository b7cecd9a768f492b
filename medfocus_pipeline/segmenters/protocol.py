"""What a segmenter is."""

from collections.abc import Sequence
from typing import Protocol

from medfocus_pipeline.types import Candidates, Image


class Segmenter(Protocol):
    """Proposes candidate masks for images.

    Contract:
        - `segment` answers one `Candidates` for each image, in order; an image without
          any candidate gets an empty one (k = 0), never an exception.
        - Images are ``(h, w, 3) uint8`` RGB of any size from 1 x 1 up and may differ in size.
        - Masks are in the square frame of `MasksConfig.frame`, sorted by falling score,
          at most `MasksConfig.max_candidates`, none empty.
        - The answer for an image does not depend on its neighbours in the batch (up to
          rounding of the arithmetic), and repeats exactly on the same machine.
        - On a CPU `segment` is called from several threads at once.
        - Running out of device memory leaves as the framework's own exception: the caller
          halves the batch and tries again.
    """

    @property
    def batch_size(self) -> int:
        """Images a call that suit the model and device when the user names none."""

    def segment(self, images: Sequence[Image]) -> list[Candidates]:
        """Candidates of each image, in order."""
