"""A data set: its images, card and manifest, brought up to date."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import pyarrow as pa

from medfocus_pipeline.config import ProbeConfig
from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets.card import Card, find_card, load_card, plain_card
from medfocus_pipeline.datasets.image_paths import Files
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.readers import CHANGED, decode, picture_id, picture_place, steady
from medfocus_pipeline.datasets.scan import data_root, scan
from medfocus_pipeline.datasets.splits import Split, test_split
from medfocus_pipeline.errors import ConfigError, DamagedError, DataError, ImageError
from medfocus_pipeline.files import disk_errors, sha256
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.project.progress import Progress, silent
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.sealed import present
from medfocus_pipeline.types import Image

_log = logging.getLogger(__name__)

_READERS, _WAITING = 4, 16
"""Threads that open files, and objects, which are waited for more than computed."""

MANIFEST = "manifest.parquet"

_TEST_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set as the stages use it.

    Attributes:
        root: folder that the manifest's paths are relative to.
        card: the data set's, or one made from its class names.
        card_path: None for a card that came with MedFocus, and without one.
        files: usable image id -> path; byte-equal files share an id.
    """

    root: Path
    card: Card
    card_path: Path | None
    manifest: Manifest
    files: Files

    def read(self, image_id: str) -> Image:
        """The image of an id.

        Raises:
            ImageError: it cannot be read any more, or is not what the scan saw.
        """
        path, number = picture_place(self.root / self.files[image_id])
        try:
            with steady(path) as file:
                pixels, found = decode(file, number).pixels, sha256(file)
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from error
        if picture_id(found, number) != image_id:
            raise ImageError(f"{CHANGED}. Run the same command again")
        return pixels

    def elsewhere(self) -> "Dataset":
        """What `read` and the prompts need, to be sent to another process."""
        rows = self.manifest.rows.schema.empty_table()
        return replace(self, manifest=Manifest(rows))

    def need_here(self) -> None:
        """Refuse to go on where another process' images cannot be seen.

        Raises:
            DataError: none of the first few is here.
        """
        places = (picture_place(self.root / name)[0] for name in islice(self.files.values(), 8))
        try:
            seen = any(path.exists() for path in places)
        except OSError as error:
            raise DataError(
                f"the images of {self.root} cannot be seen here: {error.strerror}. Name the "
                "object store's key and endpoint (AWS_…) on every node before Ray starts there."
            ) from error
        if not seen:
            raise DataError(
                f"the images of {self.root} cannot be seen here. Put them on a file system that "
                "every node has mounted at the same path."
            )

    @property
    def phrases(self) -> tuple[str, ...]:
        """What stands for each class in a prompt."""
        return tuple(one.prompt for one in self.card.classes)

    @property
    def prompts(self) -> list[str]:
        """Every class prompt, in class and template order."""
        return [text for texts in self.card.prompts() for text in texts]

    def without(self, context: Context, problems: Mapping[str, str]) -> "Dataset":
        """The data set without images that turned out unreadable after the scan.

        The manifest on disk says so too: later stages do not ask for them, and a scan opens
        them again only when the files change.

        Args:
            problems: image id -> why.
        """
        if not problems:
            return self
        manifest = self.manifest.with_problems(problems)
        with disk_errors(context.folder):
            manifests.write(manifest, context.folder / MANIFEST)
        return replace(self, manifest=manifest, files=manifest.files)

    @property
    def problems(self) -> dict[str, str]:
        """Path -> why the image is left out."""
        return dict(self.manifest.problems)

    @property
    def other_modality(self) -> dict[str, str]:
        """Path -> modality, of usable images that look like another one than the card's.

        Nothing without a gate, and where the card's `modality` names none that the gate knows.
        """
        manifest, said = self.manifest, self.card.modality.casefold()
        paths, names = manifest.paths, manifest.strings("looks_like")
        known = [name for name in self.card.gate.medical if name.casefold() in said]
        others = self.card.gate.medical.keys() - set(known) if known else set()
        return {paths[row]: names[row] for row in manifest.usable if names[row] in others}


def open_dataset(
    context: Context,
    *,
    images_needed: bool = True,
    rescan: bool = True,
    progress: Progress = silent,
) -> Dataset:
    """Scan the data, if it is there, and read its card.

    Args:
        images_needed: False is stage two, which also works from the manifest of a scan made
            on another machine.
        rescan: False takes the manifest as it is, if there is one.
        progress: of the scan.

    Raises:
        DataError: there is no data, or no usable image in it.
        ConfigError: the card is wrong, or the one used before is gone.
    """
    root = data_root(context.data, context.reading.images)
    card_path = _find_card(context, root)
    card = load_card(card_path) if card_path else find_card(context.dataset)
    path = context.folder / MANIFEST
    if present(path) and not (rescan and (images_needed or context.data.exists())):
        manifest = manifests.read(path)
    else:
        manifest = _scan(context, card, path, progress)
    files = manifest.files
    if not files:
        first = next((f"; {name!r} {why}" for name, why in manifest.problems), "")
        raise DataError(
            f"{context.data} has no usable image among {len(manifest):,} files{first}. "
            "Expected are folders of one class each, see data/README.md."
        )
    card = card or plain_card(context.dataset, manifest.classes)
    return Dataset(root, card, card_path, manifest, files)


def split_of(dataset: Dataset, config: ProbeConfig) -> Split:
    """The data set's own split, or the one that is drawn for it."""
    share = config.test_share or dataset.card.test_share or _TEST_SHARE
    return test_split(dataset.manifest, test_share=share, seed=config.split_seed)


def _find_card(context: Context, root: Path) -> Path | None:
    """The user's own card: beside the images, in ./data, or where it was the last time."""
    known = context.settings.card
    places = [
        root / "card.yaml",
        data_root(context.data) / "card.yaml",
        Path("data", f"{context.dataset}.yaml"),
    ]
    for place in [*places, *([known] if known else [])]:
        if place.is_file():
            return place.resolve()
    if known and find_card(context.dataset) is None:
        raise ConfigError(
            f"The card {known}, which {context.dataset} was used with, is gone. Put it back, or "
            f"remove {context.folder / 'settings.json'} to go on without it."
        )
    return None


def _scan(context: Context, card: Card | None, path: Path, progress: Progress) -> Manifest:
    try:
        previous = manifests.read(path) if present(path) else None
    except DamagedError as error:
        _log.warning("%s It is written anew.", error)
        previous = None
    ungated = previous.ungated() if previous else None
    with progress("scanning", 0) as advance:
        manifest = scan(
            context.data,
            name=context.dataset,
            card=card,
            reading=context.reading,
            previous=ungated,
            on_file=lambda _, total: advance(1, total),
            workers=_WAITING if isinstance(context.data, ObjectPath) else _READERS,
        )
    pa.default_memory_pool().release_unused()  # what the walk took, in many pieces
    if context.gate:
        from medfocus_pipeline.project.gating import gated  # no other command imports gates

        root = data_root(context.data, context.reading.images)
        manifest = gated(context, card, root, manifest, previous, progress)
    if manifest is not previous:
        # The digest alone only saves time: a shared cache may be read-only.
        same = previous is not None and manifest.says(previous, inputs=False)
        with suppress(OSError) if same else disk_errors(context.folder):
            manifests.write(manifest, path)
    return manifest
