"""From a folder or a CSV to the manifest."""

from collections.abc import Callable
from pathlib import Path

from medfocus_pipeline.datasets.card import Card, check_name, known_cards
from medfocus_pipeline.datasets.contents import open_all
from medfocus_pipeline.datasets.entries import of_folder, validated, without_left_out
from medfocus_pipeline.datasets.found import in_path_order, together
from medfocus_pipeline.datasets.inputs import Inputs, is_settled
from medfocus_pipeline.datasets.listing import read_listing
from medfocus_pipeline.datasets.manifest import Manifest, of_rows
from medfocus_pipeline.datasets.manifest_rows import manifest_rows, without_drawn_masks
from medfocus_pipeline.datasets.reading import AS_FOUND, Reading
from medfocus_pipeline.datasets.tree import columns_below
from medfocus_pipeline.errors import ConfigError, DataError


def data_root(source: Path, images: Path | None = None) -> Path:
    """The folder that manifest paths are relative to: `images`, a CSV's own, or the folder itself.

    Raises:
        ConfigError: `images` is no folder, or the source is none that lists images.
    """
    if images is None:
        return source if source.is_dir() else source.parent
    if source.is_dir() or not images.is_dir():
        what = f"{source} is a folder" if source.is_dir() else f"{images} is no folder"
        raise ConfigError(
            f"{what}: --images names the folder that the paths of a CSV are relative to, as in "
            "--data labels.csv --images scans"
        )
    return images


def scan(
    source: Path,
    *,
    name: str,
    card: Card | None = None,
    reading: Reading = AS_FOUND,
    previous: Manifest | None = None,
    on_file: Callable[[int, int], None] | None = None,
    workers: int = 2,
) -> Manifest:
    """Find, hash and decode every image of a data set.

    Args:
        source: folder with the images, or a CSV with the columns path, label and optionally
            split and group.
        name: of the data set.
        card: its card; None takes class names from the folders or labels.
        reading: what the user says beside the card.
        previous: an earlier manifest; a file of unchanged size and mtime is not opened again.
        on_file: told (done, total) of the files that are opened.
        workers: threads that open them.

    Returns:
        One row for every image file, sorted by path, also for those that cannot be used;
        `previous` itself if nothing has changed. Of files that ``stat`` as they did, nothing
        else is asked.

    Raises:
        DataError: no such source, no image in it, or none where the card looks for them.
        ConfigError: the name or what `reading` says is not usable.
    """
    check_name(name)
    _need(source, name)
    root = data_root(source, reading.images)
    listed = _listing(source, card)
    where = str(source.resolve()) + (f" with {root.resolve()}" if reading.images else "")
    inputs = Inputs(name=name, source=where, card=card, reading=reading, listing=listed)
    if listed:
        digest, keep = inputs.again(root, previous) if previous else "", True
    else:
        parts = columns_below(source)
        digest, keep = inputs.of_tree(parts), _keeps_masks(card, reading)
    if previous and digest == previous.inputs and digest and is_settled(previous):
        return previous
    if listed:
        columns = {**(card.columns if card else {}), **reading.columns}
        entries, used, parts = read_listing(listed, card, root=root, columns=columns)
        digest = inputs.of_listed(root, entries, parts)
    else:
        files = in_path_order(together(parts))
        entries, used = of_folder(files, card, source, keep_masks=keep)
    del parts  # as large as the entries
    entries = validated(without_left_out(entries, used), used)
    if previous and previous.source != where:
        previous = None  # equal paths, sizes and times elsewhere are other files
    every = used.volumes == "all"
    contents, of = open_all(root, entries, previous, on_file, workers, every=every)
    entries = entries if keep else without_drawn_masks(entries, contents, of)
    found = of_rows(
        manifest_rows(entries, contents, of, used),
        name=name,
        classes=[item.name for item in used.classes],
        from_card=card is not None,
        source=where,
    ).with_inputs(digest)
    if previous and previous.says(found, inputs=False):
        return previous.with_inputs(digest)
    return found


def _need(source: Path, name: str) -> None:
    """Refuse a source that is not there."""
    if not source.exists():
        known = ", ".join(known_cards())
        raise DataError(
            f"The data of {name!r} is not at {source}. Put its images there, or say where they "
            f"are: DATA=path/to/images. Data sets with a card: {known}."
        )


def _keeps_masks(card: Card | None, reading: Reading) -> bool:
    """Whether what looks like an annotation mask is an image."""
    said = reading.keep_masks
    return bool(card and (card.annotation or card.keep_masks)) if said is None else said


def _listing(source: Path, card: Card | None) -> Path | None:
    """The CSV that lists the images: the source itself, or the card's in the folder."""
    if not source.is_dir():
        return source
    file = source / card.listing.file if card and card.listing else None
    return file if file and file.is_file() else None
