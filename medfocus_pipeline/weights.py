"""Weight files: where they are, and which bytes they have.

No torch here: what a model's identity is must be known in milliseconds, before anything is loaded.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medfocus_pipeline.errors import StoreError, WeightsError
from medfocus_pipeline.files import sha256
from medfocus_pipeline.hub import cached_snapshot, choose, download_files
from medfocus_pipeline.sealed import read_json, write_json
from medfocus_pipeline.tensors import shards_of
from medfocus_pipeline.types import ModelIdentity

logger = logging.getLogger(__name__)

_OWNER = "weights"


@dataclass(frozen=True, slots=True)
class Weights:
    """The local files of one model.

    Attributes:
        identity: what goes into a store's key.
        paths: file name as in the identity -> local path.
    """

    identity: ModelIdentity
    paths: dict[str, Path]


class FileHashes:
    """SHA-256 of files, remembered by resolved path, size and mtime."""

    def __init__(self, path: Path | None = None) -> None:
        """Read the memo at `path`; None keeps it in memory only."""
        self._path = path
        self._memo = _read_memo(path)

    def sha256(self, path: Path) -> str:
        """Hex digest of the file's bytes.

        Raises:
            OSError: the file cannot be read.
        """
        resolved = path.resolve(strict=True)
        stat = resolved.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        known = self._memo.get(str(resolved))
        if known is not None and known[:2] == stamp:
            return str(known[2])
        digest = sha256(resolved)
        self._remember(str(resolved), [*stamp, digest])
        return digest

    def _remember(self, name: str, entry: list[int | str]) -> None:
        self._memo[name] = entry
        if self._path is None:
            return
        # Another process may have added entries since; losing a race costs one more hashing.
        self._memo = _read_memo(self._path) | self._memo
        try:
            write_json(self._path, self._memo, owner=_OWNER)
        except OSError as error:
            logger.warning("File hashes are not remembered in %s: %s", self._path, error)


def hub_weights(
    repo: str,
    files: Sequence[str],
    *,
    optional: Sequence[str] = (),
    revision: str | None,
    hashes: FileHashes,
    download: bool,
    cache_dir: Path | None = None,
) -> Weights | None:
    """Files of a Hugging Face model, from the local cache or else from the hub.

    The cache is looked at first, and a complete copy there is used without asking the hub
    whether its branch has moved on. All files are of one commit.

    Args:
        repo: hub id, ``openai/clip-vit-base-patch16``.
        files: names that the model needs; ``"tokenizer.json|vocab.json"`` is the first of them
            that exists. Of an index (``model.safetensors.index.json``) its shards too.
        optional: names taken where they exist.
        revision: branch, tag or commit; None is ``main``.
        hashes: memo of file hashes.
        download: fetch what is missing.
        cache_dir: the hub's cache folder; None is Hugging Face's own choice (``HF_HUB_CACHE``).

    Returns:
        The files with their commit and hashes; None if the cache has not all of them and
        `download` is False.

    Raises:
        WeightsError: the hub cannot be reached, refuses, or has no such model or file.
    """
    snapshot = cached_snapshot(repo, revision or "main", cache_dir)
    names, missing = _choose_local(files, optional, snapshot)
    if missing:
        if not download:
            return None
        snapshot, names = download_files(repo, files, optional, revision or "main", cache_dir)
    paths = {name: snapshot / name for name in names}
    return Weights(_identity(repo, snapshot.name, paths, hashes), paths)


def local_weights(name: str, files: Mapping[str, Path], *, hashes: FileHashes) -> Weights:
    """Weights that lie in local files.

    Args:
        name: the model's id, never a path.
        files: file name for the identity -> path.
        hashes: memo of file hashes.

    Raises:
        WeightsError: a file is missing or unreadable.
    """
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        raise WeightsError(
            f"Weights of {name}: no such file: {', '.join(missing)}; name an existing "
            "checkpoint, or leave it out to use the hub's weights."
        )
    paths = dict(files)
    return Weights(_identity(name, None, paths, hashes), paths)


def folder_weights(
    folder: Path, files: Sequence[str], *, optional: Sequence[str] = (), hashes: FileHashes
) -> Weights:
    """Weights in a local folder, named after it; `files` and `optional` as for `hub_weights`.

    Raises:
        WeightsError: the folder or a file is missing or unreadable.
    """
    name = folder.resolve().name
    names, missing = _choose_local(files, optional, folder)
    if missing:
        raise WeightsError(
            f"Model folder {folder} has no {' and no '.join(missing)}; name a folder that "
            "`save_pretrained` wrote, or a hub id."
        )
    paths = {file: folder / file for file in names}
    return Weights(_identity(name, None, paths, hashes), paths)


def _choose_local(
    files: Sequence[str], optional: Sequence[str], folder: Path
) -> tuple[list[str], list[str]]:
    """`choose` of a folder, and the shards of an index there."""
    names, missing = choose(files, optional, lambda name: (folder / name).is_file())
    shards = [shard for name in names for shard in shards_of(folder / name)]
    absent = [shard for shard in shards if not (folder / shard).is_file()]
    return [*names, *(shard for shard in shards if shard not in names)], [*missing, *absent]


def find_files(
    model: str,
    files: Sequence[str],
    *,
    optional: Sequence[str] = (),
    revision: str | None,
    hashes: FileHashes,
    download: bool,
) -> Weights | None:
    """Files of a local folder or of a hub model: `folder_weights` or `hub_weights`.

    Args:
        model: hub id, or path of a folder.
    """
    folder = local_folder(model)
    if folder is not None:
        return folder_weights(folder, files, optional=optional, hashes=hashes)
    return hub_weights(
        model, files, optional=optional, revision=revision, hashes=hashes, download=download
    )


def model_name(model: str) -> str:
    """The hub id, or the name of a local folder: never a path."""
    folder = local_folder(model)
    return model if folder is None else folder.resolve().name


def _identity(
    name: str, revision: str | None, paths: Mapping[str, Path], hashes: FileHashes
) -> ModelIdentity:
    try:
        files = {file: hashes.sha256(path) for file, path in paths.items()}
    except OSError as error:
        raise WeightsError(
            f"Weights of {name} cannot be read: {error}; mend the file or delete it and run "
            f"`medfocus models pull {name}`."
        ) from error
    return ModelIdentity(name, revision, files)


def _read_memo(path: Path | None) -> dict[str, list[int | str]]:
    if path is None or not path.is_file():
        return {}
    try:
        return read_json(path, owner=_OWNER)
    except StoreError as error:
        logger.warning("File hashes are made anew: %s", error)
        return {}


def local_folder(model: str) -> Path | None:
    """The folder that `model` names; None for a hub id (``name`` or ``owner/name``)."""
    path = Path(model).expanduser()
    looks_local = model.startswith((".", "~")) or path.is_absolute() or len(path.parts) > 2
    return path if looks_local or path.is_dir() else None
