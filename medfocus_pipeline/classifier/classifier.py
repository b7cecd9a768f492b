"""The Python interface of an exported run: images in, answers out.

    from medfocus_pipeline.classifier import Classifier

    classifier = Classifier.load("models/brain")
    [answer] = classifier.predict([image])             # (h, w, 3) uint8, RGB
    answer.label, answer.probabilities                 # "glioma", (K,) float64
    answer.box, answer.unfamiliar                      # (x0, y0, x1, y1), False
    [explanation] = classifier.explain([image])
    explanation.heat                                   # (h, w) float32 in [0, 1]

`medfocus_pipeline.datasets.readers.read_image` makes such arrays of PNG, JPEG, TIFF, DICOM and
NIfTI files, as the pipeline does: then the answers are the pipeline's, to 1e-5. That holds on
one machine with one number of threads: sums that are split otherwise are rounded otherwise, and
where two regions are all but equal, a last bit decides which one is looked at.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medfocus_pipeline import encoders, image_roi, segmenters
from medfocus_pipeline.classifier.answer import Answer, Explanation
from medfocus_pipeline.classifier.explanation import HeatMethod, heat_of, settled_method
from medfocus_pipeline.classifier.novelty import Familiar
from medfocus_pipeline.classifier.pack import Pack, read_pack
from medfocus_pipeline.classifier.pack_config import PackConfig
from medfocus_pipeline.classifier.stage_one import StageOne, features
from medfocus_pipeline.config import EmbedConfig, Runtime
from medfocus_pipeline.encoders.prompt_tower import PromptSource
from medfocus_pipeline.errors import DataError, WeightsError
from medfocus_pipeline.gate.gate import Gate
from medfocus_pipeline.heads.protocol import FittedHead
from medfocus_pipeline.heads.saved import load as load_head
from medfocus_pipeline.heads.table import entry
from medfocus_pipeline.model_record import found_again
from medfocus_pipeline.stores.job import is_out_of_memory
from medfocus_pipeline.tuning.kept import restore
from medfocus_pipeline.types import Device, Image
from medfocus_pipeline.weights import FileHashes, Weights

_AT_ONCE = 32
"""Images whose pictures are in memory together."""


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """One fitted run with the models that it needs.

    >>> from pathlib import Path
    >>> from medfocus_pipeline import Classifier
    >>> from medfocus_pipeline.datasets.readers import read_image
    >>> classifier = Classifier.load("models/shapes")  # of `medfocus export`
    >>> [answer] = classifier.predict([read_image(Path("images/test/disc/disc 0.png"))])
    >>> answer.label, answer.probabilities.shape, answer.unfamiliar
    ('disc', (2,), False)
    >>> [explanation] = classifier.explain([read_image(Path("images/test/disc/disc 0.png"))])
    >>> explanation.heat.shape
    (64, 64)

    Attributes:
        config: what the pack says about itself.
        stage_one: from images to features.
        head: from features to probabilities.
        familiar: what training images look like.
        gate: says which images are none to classify; None where the folder has none.
    """

    config: PackConfig
    stage_one: StageOne
    head: FittedHead
    familiar: Familiar
    gate: Gate | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: Device = "auto",
        batch_size: int | None = None,
        hashes: FileHashes | None = None,
    ) -> "Classifier":
        """The classifier of a folder that `medfocus export` wrote; nothing is downloaded.

        Args:
            path: of the folder.
            device: auto, cpu, cuda or mps.
            batch_size: images a call of a model, >= 1; None is what suits each of them.
            hashes: memo of the weight files' hashes; None hashes them all.

        Raises:
            ConfigError: the device is not there.
            WeightsError: the folder is no classifier, or a model that it needs is missing,
                corrupt, or has other weights than it was exported with.
        """
        pack = read_pack(Path(path).expanduser())
        config, memo = pack.config, hashes or FileHashes()
        runtime = Runtime(device=device, batch_size=batch_size)
        weights = found_again(encoders.find_weights, config.encoder, config.encoder_model, memo)
        prompts = None
        if entry(config.head).needs == "text tower":
            prompts = PromptSource(config.encoder, weights, config.phrases)
        head = load_head(pack.head, prompts=prompts)
        stage_one = _stage_one(pack, weights, memo, runtime)
        return cls(config, stage_one, head, pack.familiar, _gate(pack, stage_one, memo, runtime))

    def predict(self, images: Sequence[Image]) -> list[Answer]:
        """Classify images.

        Args:
            images: ``(h, w, 3) uint8`` RGB each, of any sizes from 1 x 1 up.

        Returns:
            One answer for each image, in order; none for no image. They are what the pipeline
            says of the same pixels, to 1e-5.

        Raises:
            DataError: an array is no such image; none is classified then.
        """
        check(images)
        return [answer for _, answer in self._answered(images)]

    def explain(
        self, images: Sequence[Image], *, method: HeatMethod | None = None
    ) -> list[Explanation]:
        """Classify images and say where in them the answers come from.

        Args:
            images: as for `predict`.
            method: None is ``tokens`` where the encoder has tokens in the space of its
                features, else ``occlusion``.

        Returns:
            One explanation for each image, in order.

        Raises:
            DataError: an array is no image.
            ConfigError: ``tokens``, and the encoder has none.
        """
        check(images)
        how = settled_method(self.stage_one, method)
        # What only tells the familiar from the unfamiliar has no say in the answer.
        seen = replace(self.stage_one, parts=self.config.parts)
        return [
            Explanation(
                answer, heat_of(seen, self.head, image, answer.roi, answer.predicted, how), how
            )
            for image, answer in self._answered(images)
        ]

    def _answered(self, images: Sequence[Image]) -> Iterator[tuple[Image, Answer]]:
        for start in range(0, len(images), _AT_ONCE):
            some = images[start : start + _AT_ONCE]
            rois = self.stage_one.regions(some)
            encoded = self.stage_one.encoded(some, rois)
            with self._fitting():
                probabilities = self.head.predict_proba(features(encoded, self.config.parts))
                distances = self.familiar.distances(features(encoded, self.config.familiar_parts))
                if probabilities.shape != (len(some), len(self.config.classes)):
                    raise ValueError(f"it answers {probabilities.shape[1:]} classes")
                gates = [None] * len(some) if self.gate is None else self.gate.check(some)
            for image, roi, row, distance, gate in zip(
                some, rois, probabilities, distances, gates, strict=True
            ):
                yield (
                    image,
                    Answer(
                        self.config.classes,
                        row,
                        int(row.argmax()),
                        roi,
                        float(distance),
                        self.familiar.threshold,
                        self.stage_one.seen(roi),
                        gate,
                    ),
                )

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        """The boundary to the stored arrays: what numpy and torch raise where sizes differ.

        Raises:
            WeightsError: the arrays do not fit the features.
        """
        try:
            yield
        except (ValueError, LookupError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise WeightsError(
                f"The classifier of {self.config.dataset} does not fit its models' features "
                f"({error}). Export it again: medfocus export"
            ) from error


def _stage_one(pack: Pack, encoder: Weights, hashes: FileHashes, runtime: Runtime) -> StageOne:
    """Segmenter and encoder of a pack, ready to run; `encoder` are the weights of the latter.

    Raises:
        ConfigError: the device is not there.
        WeightsError: weights are missing, corrupt, or not those of the pack.
    """
    config = pack.config
    segmenter = None
    if config.masks is not None and config.segmenter is not None:
        found = found_again(
            segmenters.find_weights, config.masks.segmenter, config.segmenter, hashes
        )
        segmenter = segmenters.load_segmenter(config.masks, found, runtime)
    loaded = encoders.load_encoder(config.encoder, encoder, runtime)
    if config.tuned is not None:
        restore(loaded, config.tuned, pack.network, label=config.encoder_model.id)
    similarity = None
    if config.roi == "text" and pack.texts is not None:
        similarity = image_roi.text_similarity(loaded, pack.texts, fit=config.fit)
    return StageOne(
        masks=config.masks,
        segmenter=segmenter,
        encoder=loaded,
        parts=(*config.parts, *config.familiar_parts),
        embed=EmbedConfig(
            encoder=config.encoder, roi=config.roi, fit=config.fit, views=config.views
        ),
        similarity=similarity,
        batch_size=runtime.batch_size,
        device=runtime.device,
    )


def _gate(pack: Pack, stage_one: StageOne, hashes: FileHashes, runtime: Runtime) -> Gate | None:
    """The gate of a pack, with the pack's own encoder where that is the gate's too."""
    if pack.gate is None:
        return None
    described, config = pack.gate.described, pack.config
    if (described.encoder, described.model) == (config.encoder, config.encoder_model):
        return Gate(described, pack.gate.fitted, stage_one.encoder)
    return Gate.load(pack.gate, hashes, runtime)


def check(images: Sequence[Image]) -> None:
    """Refuse what is no list of images.

    Raises:
        DataError: an array has another shape or dtype.
    """
    if getattr(images, "ndim", 4) == 3:
        raise DataError("Expected a list of images, got one image: write [image].")
    for number, image in enumerate(images):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
            raise DataError(
                f"Image {number} is {kind}, expected (h, w, 3) uint8: scale it to 0 .. 255, or "
                "read files with medfocus_pipeline.datasets.readers.read_image."
            )
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise DataError(
                f"Image {number} has the shape {image.shape}, expected (h, w, 3) RGB: repeat "
                "the channel of a grey image three times."
            )
