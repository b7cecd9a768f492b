"""The Hugging Face hub: where its cache has a model's files, and fetching them.

What its library raises becomes a `WeightsError` here.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.files import sha256
from medfocus_pipeline.tensors import shards_of

if TYPE_CHECKING:
    from huggingface_hub.hf_api import BlobLfsInfo

_TIMEOUT = 10.0
"""Seconds to wait for the hub's answer; one try, no retries."""


def repository_folder(repo: str, cache_dir: Path | None) -> Path:
    """Where the hub's cache keeps a model.

    The layout is specified at https://huggingface.co/docs/hub/local-cache and read here because
    importing the hub's own look-up takes half a second.
    """
    from huggingface_hub import constants

    return Path(cache_dir or constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def cached_snapshot(repo: str, revision: str, cache_dir: Path | None) -> Path:
    """The snapshot folder of a revision in the hub's cache; it may not exist."""
    root = repository_folder(repo, cache_dir)
    reference = root / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    return root / "snapshots" / commit


def choose(
    files: Iterable[str], optional: Iterable[str], exists: Callable[[str], bool]
) -> tuple[list[str], list[str]]:
    """The names that exist (first of each alternative), and the needs that nothing meets.

    What is optional comes first: once all needs are met, nothing is missing any more.
    """
    found: list[str] = []
    missing: list[str] = []
    for need in files:
        name = next(filter(exists, need.split("|")), None)
        if name is None:
            missing.append(need)
        else:
            found.append(name)
    return list(dict.fromkeys([*filter(exists, optional), *found])), missing


def download_files(
    repo: str, files: Sequence[str], optional: Sequence[str], revision: str, cache_dir: Path | None
) -> tuple[Path, list[str]]:
    """Fetch all files of one commit; see `weights.hub_weights`.

    Returns:
        Its snapshot folder and the names of the files there.

    Raises:
        WeightsError: the hub cannot be reached, refuses, or has no such model or file.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # its httpx's own

    begun = False
    try:
        # Asked first because it fails at once where there is no network: the download of a
        # file would retry for half a minute.
        info = HfApi().model_info(repo, revision=revision, timeout=_TIMEOUT, files_metadata=True)
        available = {file.rfilename: file.lfs for file in info.siblings or ()}
        names, missing = choose(files, optional, available.__contains__)
        if missing:
            raise WeightsError(
                f"{repo} at revision {revision} has no {' and no '.join(missing)}; name another "
                "revision (a pull request is refs/pr/<n>) or another model."
            )
        pending = list(names)
        begun = True
        while pending:
            name = pending.pop(0)
            path = _fetch(repo, name, revision, available.get(name), cache_dir)
            snapshot = path.parents[name.count("/")]
            revision = snapshot.name  # the first file fixes the commit of the others
            new = [shard for shard in shards_of(path) if shard not in names]
            names += new
            pending += new
    except (OSError, ValueError, HTTPError) as error:
        raise WeightsError(
            f"Weights of {repo} are not in the local cache and cannot be fetched: "
            f"{_reason(error)}; run `medfocus models pull {repo}` {_when(error, begun)}, or use "
            "PROFILE=offline."
        ) from error
    return snapshot, names


def _fetch(
    repo: str, name: str, revision: str, lfs: "BlobLfsInfo | None", cache_dir: Path | None
) -> Path:
    """One file, in the cache: its path there."""
    from huggingface_hub import hf_hub_download

    if lfs is not None:
        _go_on_with(repo, name, revision, lfs, cache_dir)
    return Path(hf_hub_download(repo, name, revision=revision, cache_dir=cache_dir))


def _go_on_with(
    repo: str, name: str, revision: str, lfs: "BlobLfsInfo", cache_dir: Path | None
) -> None:
    """Puts a large file where the hub's own download looks for it, and keeps what came of it.

    The hub's library throws a file away that did not come whole (its pull request 4228): of a
    model of a gigabyte, another would be fetched from the start.
    """
    from filelock import FileLock
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    blob = repository_folder(repo, cache_dir) / "blobs" / lfs.sha256
    if blob.exists():
        return
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{lfs.sha256}.medfocus.incomplete")
    with FileLock(part.with_suffix(".lock")):
        if blob.exists():
            return
        with part.open("ab") as stream:
            http_get(
                hf_hub_url(repo, name, revision=revision),
                stream,
                resume_size=part.stat().st_size,
                headers=build_hf_headers(),
                expected_size=lfs.size,
                displayed_filename=name,
            )
        if sha256(part) != lfs.sha256:
            part.unlink()
            raise OSError(f"{name} came damaged and was deleted")
        part.replace(blob)


def _when(error: Exception, begun: bool) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    if begun and not isinstance(error, HfHubHTTPError):
        return "again: it goes on with what has come"
    return "where there is network"


def _reason(error: Exception) -> str:
    """What went wrong at the hub, in a few words."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "it is gated (accept its terms on the hub and run `hf auth login`)"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no such model, or it is private (run `hf auth login`)"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the hub has no such revision of it"
    return first_line(error)


def first_line(error: Exception) -> str:
    """An exception's kind and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
