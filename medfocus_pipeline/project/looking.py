"""What the gate sees of images: their embedding as stage one has it, else a pass of the network."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medfocus_pipeline import embedding
from medfocus_pipeline.config import EncoderConfig, Runtime
from medfocus_pipeline.datasets.readers import decode, picture_place
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.encoders import load_encoder
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.errors import DamagedError, ImageError
from medfocus_pipeline.gate.gate import whole_features
from medfocus_pipeline.model_record import Model
from medfocus_pipeline.project.progress import Progress
from medfocus_pipeline.stores import catalog
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.types import FeatureKind, FeaturePart, Fit, FloatArray, Image
from medfocus_pipeline.vectors import joined
from medfocus_pipeline.weights import Weights

_log = logging.getLogger(__name__)

_AT_ONCE = 16
"""Images of a call, which bounds the memory."""

_VIEW = "identity"


@dataclass(frozen=True)
class Looked:
    """How images are looked at.

    Attributes:
        encoder: of whole images, `weights` its files.
        feature: what is taken of them.
        fit: how an image becomes the encoder's square.
    """

    encoder: EncoderConfig
    weights: Weights
    feature: FeatureKind
    fit: Fit

    @property
    def model(self) -> Model:
        """Of the encoder."""
        return Model.of(self.weights.identity)

    @cached_property
    def loaded(self) -> Encoder:
        """The encoder, loaded when it is first asked for."""
        return load_encoder(self.encoder, self.weights, Runtime())

    def features(
        self, dataset: Path, root: Path, files: Mapping[str, str], progress: Progress
    ) -> dict[str, FloatArray]:
        """Image id -> ``(d,) float32``; images that cannot be read are left to the later stages.

        Args:
            dataset: part of the cache that may hold their embeddings.
            root: folder that the paths are relative to.
            files: image id -> path.
            progress: of the images that the network has to see.
        """
        found = self._embedded(dataset, files)
        names = [name for name in files if name not in found]
        if not names:
            return found
        parts = [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]
        self.loaded  # noqa: B018  (before the threads ask for it)

        def look(some: Sequence[str]) -> dict[str, FloatArray]:
            return self._seen(root, {name: files[name] for name in some})

        with (
            progress("looking at new images", len(names)) as advance,
            calls_at_once("auto") as calls,
            ThreadPoolExecutor(calls, "gate") as callers,
        ):
            for some, rows in zip(parts, callers.map(look, parts), strict=True):
                found |= rows
                advance(len(some))
        return found

    def _seen(self, root: Path, files: Mapping[str, str]) -> dict[str, FloatArray]:
        images: dict[str, Image] = {}
        for name, path in files.items():
            try:
                images[name] = decode(*picture_place(root / path)).pixels
            except (OSError, ImageError) as error:
                _log.warning("%r is not looked at by the gate: %s", path, error)
        if not images:
            return {}
        seen = [*images.values()]
        rows = whole_features(self.loaded, seen, feature=self.feature, fit=self.fit)
        return dict(zip(images, rows, strict=True))

    def _embedded(self, dataset: Path, files: Mapping[str, str]) -> dict[str, FloatArray]:
        """Those that are embedded already, by the same model and seen in the same way."""
        part, found = FeaturePart("original", self.feature), dict[str, FloatArray]()
        for store in catalog.open_stores(dataset, embedding.STAGE):
            if not self._is_of(store.recipe):
                continue
            view = store.recipe.config["views"].index(_VIEW)
            for shard in store.index().parts.values():
                rows = {name: n for n, name in enumerate(shard.image_ids) if name in files}
                if not rows:
                    continue
                try:
                    arrays = store.read(shard, names=part.arrays)
                except DamagedError:
                    continue  # the network looks at them; stages that need the shard say so
                features = joined([[arrays[name] for name in part.arrays]])[:, view]
                found |= {name: features[n] for name, n in rows.items()}
        return found

    def _is_of(self, recipe: Recipe) -> bool:
        """Whether a store has what this would give.

        Levels are kept as their mean over the views, so that there may be no other view.
        """
        config, views = recipe.config, recipe.config["views"]
        return (
            recipe.version == embedding.VERSION
            and recipe.model == self.weights.identity.as_json()
            and (config["focus"], config["fit"]) == ("original", self.fit)
            and config["encoder"]["name"] == self.encoder.name
            and config["encoder"].get("precision") == getattr(self.encoder, "precision", None)
            and (views == [_VIEW] or (self.feature == "pooled" and _VIEW in views))
        )
