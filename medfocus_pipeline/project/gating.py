"""The gate in front of a data set: each new image is looked at once, and the manifest says so."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medfocus_pipeline.config import EfficientNetLiteConfig, EncoderConfig
from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.gate_prompts import GatePrompts
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.manifest_columns import NOT_MEDICAL
from medfocus_pipeline.encoders import find_weights, has_text, model_id
from medfocus_pipeline.encoders.protocol import TextEncoder
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.gate.gate import verdicts
from medfocus_pipeline.gate.own import OwnGate
from medfocus_pipeline.gate.saved import (
    Fitted,
    GateDescription,
    SavedGate,
    read_gate,
    settings_of,
    write_gate,
)
from medfocus_pipeline.gate.zero_shot import ZeroShot
from medfocus_pipeline.project.looking import Looked
from medfocus_pipeline.project.progress import Progress
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.types import FloatArray
from medfocus_pipeline.vectors import class_means

_GROWN = 2
"""A data set's own gate is fitted anew when the set has grown by this factor."""


@dataclass(frozen=True, slots=True, eq=False)
class Looker:
    """Which gate a data set gets: of words where the encoder has some, else its own.

    lite-clip has words, but only those of drawn images (docs/gate.md).

    Attributes:
        what: is looked at; of a gate of words as its model was published.
        prompts: None is the data set's own gate.
    """

    what: Looked
    prompts: GatePrompts | None

    @classmethod
    def of(cls, context: Context, card: Card | None) -> "Looker":
        """The gate of a profile.

        Raises:
            WeightsError: the weights of its encoder are not on this machine.
        """
        encoder: EncoderConfig = context.embed.encoder
        prompts = (card.gate if card else GatePrompts()) if has_text(encoder) else None
        if prompts is None or encoder.name == "lite-clip":
            encoder, prompts = EfficientNetLiteConfig(), None
        weights = find_weights(encoder, context.hashes(), download=False)
        if weights is None:
            model = model_id(encoder)
            raise WeightsError(
                f"The gate needs the weights of {model}, which are not on this machine. Run: "
                f"medfocus models pull {model}; or take a gate that needs no words: --profile "
                "offline; or none: medfocus scan --no-gate"
            )
        if prompts is None:
            return cls(Looked(encoder, weights, "levels", "squeeze"), None)
        return cls(Looked(encoder, weights, "pooled", "crop"), prompts)

    def fits(self, saved: SavedGate, images: int) -> bool:
        """Whether a gate is the one that would be made now, of so many images."""
        own = saved.described
        if (own.model, own.feature) != (self.what.model, self.what.feature):
            return False
        if own.settings.kind == "own":
            return self.prompts is None and images < _GROWN * own.settings.images
        return self.prompts is not None and own.settings.prompts == _digest(self.prompts)

    def described(self, fitted: Fitted, images: int) -> GateDescription:
        """What a gate is."""
        prompts = "" if self.prompts is None else _digest(self.prompts)
        return GateDescription(
            encoder=self.what.encoder,
            model=self.what.model,
            feature=self.what.feature,
            fit=self.what.fit,
            settings=settings_of(fitted, images=images, prompts=prompts),
        )


def gated(
    context: Context,
    card: Card | None,
    root: Path,
    manifest: Manifest,
    previous: Manifest | None,
    progress: Progress,
) -> Manifest:
    """The manifest with what the gate says of every usable image.

    Args:
        card: of the data set, if it has one.
        root: folder that the manifest's paths are relative to.
        manifest: of a scan, no gate looked at it.
        previous: the one before, whose scores stand where the gate is the same.
        progress: of the images that are looked at.

    Raises:
        DataError: the images are too few for a gate of their own.
        WeightsError: the encoder's weights are not on this machine.
    """
    looker, folder = Looker.of(context, card), gate_folder(context)
    files, saved = manifest.files, read_gate(folder)
    known: dict[str, tuple[float, str]] = {}
    if saved is not None and looker.fits(saved, len(files)):
        if previous is not None and previous.gate == saved.described.key:
            known = previous.gate_scores
    else:
        saved = None
    missing = {name: path for name, path in files.items() if name not in known}
    if saved is None or missing:
        rows = looker.what.features(context.folder, root, missing, progress)
        if saved is None:
            fitted = _fit(looker, rows)
            saved = write_gate(folder, SavedGate(looker.described(fitted, len(files)), fitted))
        said = verdicts(saved.fitted, np.stack([*rows.values()])) if rows else []
        known |= {name: (one.score, one.looks_like) for name, one in zip(rows, said, strict=True)}
    return manifest.gated(saved.described.key, known, _problems(context, manifest, known, saved))


def gate_folder(context: Context) -> Path:
    """Where a data set's gate is."""
    return context.folder / "gate"


def saved_gate(context: Context) -> SavedGate | None:
    """The gate that looked at a data set; None where none is asked for."""
    return read_gate(gate_folder(context)) if context.gate else None


def is_kept(path: str, keep: Sequence[str]) -> bool:
    """Whether somebody said that a file is an image all the same: by path, name or pattern."""
    names = (path, path.rpartition("/")[2])
    return any(
        one == wanted or fnmatch.fnmatchcase(one, wanted) for wanted in keep for one in names
    )


def _problems(
    context: Context,
    manifest: Manifest,
    known: Mapping[str, tuple[float, str]],
    saved: SavedGate,
) -> dict[int, str]:
    """Row -> why it is left out."""
    why = "it is unlike the rest of the data set" if saved.described.settings.kind == "own" else ""
    found = {}
    for row, (image_id, path) in enumerate(zip(manifest.image_ids, manifest.paths, strict=True)):
        score, _ = known.get(image_id, (0.0, ""))
        if score < 0 and not is_kept(path, context.settings.keep):
            told = f"{why}, " if why else ""
            found[row] = f"{NOT_MEDICAL}: {told}score {score:.2f} (--keep NAME: an image)"
    return found


def _fit(looker: Looker, rows: Mapping[str, FloatArray]) -> Fitted:
    if looker.prompts is None:
        # By their ids: the order in which files lie must not matter.
        ordered = [rows[name] for name in sorted(rows)]
        return OwnGate.of(
            np.stack(ordered) if ordered else np.empty((0, 1), np.float32), generator("own gate")
        )
    encoder = looker.what.loaded
    if not isinstance(encoder, TextEncoder):
        raise ValueError("a gate of words has an encoder of words")
    texts = class_means(encoder.encode_text(some) for some in looker.prompts.texts)
    pooling = looker.prompts.pooling
    return ZeroShot.of(texts, encoder.temperature, looker.prompts, pooling)


def _digest(prompts: GatePrompts) -> str:
    return digest(prompts.model_dump(mode="json"))
