"""Weight files: where they are, and which bytes they have.

No torch here: what a model's identity is must be known in milliseconds, before anything is loaded.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from medfocus_pipeline.config import Frozen
from medfocus_pipeline.errors import MedFocusError, StoreError, WeightsError
from medfocus_pipeline.files import replacing, sha256
from medfocus_pipeline.hub import cached_snapshot, choose, download_files, first_line
from medfocus_pipeline.sealed import read_json, write_json
from medfocus_pipeline.tensors import beyond_tensors, shards_of
from medfocus_pipeline.types import ModelIdentity

if TYPE_CHECKING:
    from torch import Tensor

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


class Model(Frozen):
    """A `ModelIdentity`, for JSON."""

    id: str
    revision: str | None = None
    files: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, identity: ModelIdentity) -> "Model":
        """From a model's identity."""
        return cls(id=identity.id, revision=identity.revision, files=dict(identity.files))


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


def unusable(weights: Weights, kind: str, error: Exception) -> WeightsError:
    """The one-sentence error for files that are there but do not load as a `kind`."""
    name = weights.identity.id
    if beyond := beyond_tensors(weights.paths.values(), error):
        return WeightsError(
            f"Weights of {name} do not load as {kind}: {beyond}, and MedFocus takes nothing but "
            "tensors out of such a file; name another revision or model, or, where you trust its "
            "authors, a folder with its tensors saved as safetensors."
        )
    if weights.identity.revision is None:
        remedy = "name a file or folder of that model"
    else:
        remedy = f"if they are corrupt, delete them and run `medfocus models pull {name}`"
    return WeightsError(f"Weights of {name} do not load as {kind}: {first_line(error)}; {remedy}.")


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


def write_tensors(
    path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None
) -> None:
    """Writes what was trained as safetensors, whole or not at all.

    Raises:
        WeightsError: a weight is not finite.
    """
    from safetensors.torch import save

    wrong = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if wrong:
        raise WeightsError(
            f"Weights are not finite ({', '.join(wrong[:3])}): the training diverged. Train anew "
            "in another folder (--work) with a smaller learning rate (--set learning_rate=...)."
        )
    with replacing(path) as temporary:
        temporary.write_bytes(save(dict(tensors), dict(metadata) if metadata else None))


@contextmanager
def loading(weights: Weights, kind: str) -> Iterator[None]:
    """The boundary of loading: what any library raises on a file that is no `kind`, is one error.

    Torch, safetensors, timm and transformers raise a dozen classes, of which none is documented.

    Raises:
        WeightsError: the files do not load.
    """
    import torch

    try:
        yield
    except (MedFocusError, MemoryError, ImportError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise unusable(weights, kind, error) from error


def pinned(config: Any, model: Model) -> Any:
    """An encoder's or segmenter's configuration with the commit of a model of the hub."""
    if model.revision is None or "revision" not in type(config).model_fields:
        return config
    return config.model_copy(update={"revision": model.revision})


def checked(found: Weights | None, wanted: Model, *, owner: str = "classifier") -> Weights:
    """Weights that are here, and those that something was made with.

    Args:
        found: None where they are not on this machine.
        wanted: whose they have to be.
        owner: who needs them, for the message.

    Raises:
        WeightsError: they are missing, or others.
    """
    if found is None:
        commit = f" at the commit {wanted.revision[:12]}" if wanted.revision else ""
        raise WeightsError(
            f"The {owner} needs the weights of {wanted.id}{commit}, which are not on this "
            f"machine. Run: medfocus models pull {wanted.id}"
        )
    have = found.identity.files
    for name in sorted(wanted.files.keys() | have.keys()):
        if wanted.files.get(name) != have.get(name):
            mine, theirs = (_short(files.get(name)) for files in (have, wanted.files))
            raise WeightsError(
                f"The {owner} was made with other weights of {wanted.id}: its {name} has "
                f"the SHA-256 {theirs}, that on this machine {mine}. Its answers would not be "
                f"the measured ones. Put back those weights, or make the {owner} again."
            )
    return found


def _short(digest: str | None) -> str:
    return "(no such file)" if digest is None else f"{digest[:12]}…"
