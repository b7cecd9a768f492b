"""What was done with one image, read back: candidates, ROI, annotation, the focused picture."""

from dataclasses import dataclass

from medfocus_pipeline import image_roi, segmentation
from medfocus_pipeline.config import EmbedConfig, Runtime
from medfocus_pipeline.datasets.annotation_files import AnnotationFiles
from medfocus_pipeline.datasets.readers import read_annotation
from medfocus_pipeline.encoders import load_encoder, need_weights
from medfocus_pipeline.masks.focus import focus
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.embeddings import similarity
from medfocus_pipeline.project.located import opened
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import Stores, check_embedded, check_texts, wanted_texts
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import Candidates, Image, Mask, Roi

_PREFERRED = "segmented"
"""The focus mode that is shown if it was embedded: the paper's."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One image and its region.

    Attributes:
        annotation: ``(h, w) bool``; None if nobody drew one.
        focused: ``(h', w', 3) uint8``, what the encoder was given.
    """

    image: Image
    candidates: Candidates
    roi: Roi
    annotation: Mask | None
    focused: Image


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Regions by image id, as one configuration has them.

    Attributes:
        reader: of the candidates.
        similarity: for the ROI rule `text`, else None.
    """

    dataset: Dataset
    config: EmbedConfig
    reader: segmentation.MaskReader
    similarity: image_roi.Similarity | None

    def read(self, image_id: str) -> Region:
        """An image with all that belongs to it.

        Raises:
            ImageError: the image or its annotation cannot be read.
        """
        image, found = self.dataset.read(image_id), self.reader(image_id)
        roi = image_roi.region(image, found, self.config, self.similarity)
        annotation = self.annotation(image_id, image.shape[:2])
        return Region(image, found, roi, annotation, focus(image, roi, self.config.focus))

    def annotation(self, image_id: str, size: tuple[int, int]) -> Mask | None:
        """``(h, w) bool`` of an image of that size; None if nobody drew one."""
        files = AnnotationFiles(self.dataset.root, self.dataset.card)
        drawn = files.of(self.dataset.files[image_id])
        return read_annotation(drawn, size) if drawn else None


def shown_embedding(
    context: Context, dataset: Dataset, stores: Stores
) -> tuple[EmbedConfig, Store]:
    """The embedding that pictures are about: segmented, or else the first focused one.

    Raises:
        StoreError: some images have none.
    """
    configs = context.embed.configs(auto=dataset.card.roi)
    pairs = list(zip(configs, stores.embeddings, strict=True))
    focused = [pair for pair in pairs if pair[0].focus != "original"]
    preferred = [pair for pair in focused if pair[0].focus == _PREFERRED]
    config, place = [*preferred, *focused, *pairs][0]
    [store] = check_embedded(context, [place])
    return config, store


def open_regions(context: Context, dataset: Dataset, masks: Store, config: EmbedConfig) -> Regions:
    """The regions of a configuration.

    Raises:
        StoreError: the ROI rule compares with class prompts that have no embeddings.
        WeightsError: it does, and the encoder's weights are not here.
    """
    alike = None
    if config.roi == "text":  # the only rule that needs the encoder again
        weights = need_weights(config.encoder, context.hashes())
        found = opened(wanted_texts(context, dataset, config.encoder).by(weights))
        texts = check_texts(context, found)
        alike = similarity(dataset, config, texts, load_encoder(config.encoder, weights, Runtime()))
    return Regions(dataset, config, segmentation.MaskReader(masks), alike)
