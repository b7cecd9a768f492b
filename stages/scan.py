"""The first thing of every stage: the manifest, brought up to date."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets.card import Card, card_folders, find_card
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.readers import read_image
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.types import Image
from stages.progress import bar, say, say_problems
from stages.settings import Context

_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set as a stage uses it.

    Attributes:
        root: folder that the manifest's paths are relative to.
        card: None for a folder or CSV without one.
    """

    root: Path
    card: Card | None
    manifest: Manifest

    def __post_init__(self) -> None:
        """Refuse a data set without a single readable image."""
        if not self.image_ids:
            problems = Counter(self.manifest.problems().values()).most_common(1)
            why = f"; most of them: {problems[0][0]}" if problems else ""
            raise DataError(
                f"{self.root} has no usable image among {self.manifest.table.num_rows:,} files{why}. "
                "Expected are folders of one class each, see data/README.md."
            )

    @property
    def image_ids(self) -> list[str]:
        """Ids of the usable images, in manifest order; byte-equal files share one."""
        return self.manifest.image_ids

    def read(self, image_id: str) -> Image:
        """The image of an id.

        Raises:
            ImageError: it cannot be read, or changed since the scan.
        """
        return read_image(self.root / self._paths[image_id])
