"""Weight files are found in a hub cache or on disk, with their commit and hashes."""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest

from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weight_files import loading
from medfocus_pipeline.weights import (
    FileHashes,
    Weights,
    folder_weights,
    hub_weights,
    local_weights,
)

REPO = "owner/model"
COMMIT = "a" * 40


def fake_cache(root: Path, files: dict[str, bytes], *, reference: str = "main") -> Path:
    """A hub cache with one snapshot, in the layout of huggingface.co/docs/hub/local-cache."""
    repo = root / "models--owner--model"
    (repo / "blobs").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        blob = repo / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = repo / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    pointer = repo / "refs" / reference
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.write_text(COMMIT)
    return root


def find(
    cache: Path,
    files: Sequence[str],
    *,
    optional: Sequence[str] = (),
    revision: str | None = None,
    download: bool = False,
) -> Weights | None:
    return hub_weights(
        REPO,
        files,
        optional=optional,
        revision=revision,
        hashes=FileHashes(),
        download=download,
        cache_dir=cache,
    )


@pytest.mark.parametrize(
    ("reference", "revision"),
    [("main", None), ("main", "main"), ("v1", "v1"), ("refs/pr/3", "refs/pr/3"), ("main", COMMIT)],
)
def test_cached_files_come_with_commit_and_hashes(
    tmp_path: Path, reference: str, revision: str | None
) -> None:
    cache = fake_cache(tmp_path, {"config.json": b"{}", "sub/w.bin": b"w"}, reference=reference)
    weights = find(cache, ["config.json", "sub/w.bin"], revision=revision)
    assert weights is not None
    assert (weights.identity.id, weights.identity.revision) == (REPO, COMMIT)
    assert weights.identity.files == {
        "config.json": hashlib.sha256(b"{}").hexdigest(),
        "sub/w.bin": hashlib.sha256(b"w").hexdigest(),
    }
    assert weights.paths["sub/w.bin"].read_bytes() == b"w"


def test_first_alternative_and_present_options_are_taken(tmp_path: Path) -> None:
    cache = fake_cache(tmp_path, {"b": b"b", "c": b"c", "d": b"d"})
    weights = find(cache, ["a|b|c"], optional=["b", "d", "e"])
    assert weights is not None
    assert list(weights.paths) == ["b", "d"]


@pytest.mark.parametrize("revision", [None, "other", "b" * 40])
def test_incomplete_cache_is_none(tmp_path: Path, revision: str | None) -> None:
    cache = fake_cache(tmp_path, {"config.json": b"{}"})
    assert find(cache, ["config.json", "model.safetensors"], revision=revision) is None
    assert find(tmp_path / "absent", ["config.json"]) is None


def test_dangling_link_is_not_a_cached_file(tmp_path: Path) -> None:
    cache = fake_cache(tmp_path, {"config.json": b"{}"})
    next((cache / "models--owner--model" / "blobs").iterdir()).unlink()
    assert find(cache, ["config.json"]) is None


def test_complete_cache_asks_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        pytest.fail("the hub was asked")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    cache = fake_cache(tmp_path, {"config.json": b"{}"})
    assert find(cache, ["config.json"], download=True) is not None


def test_unreachable_hub_is_one_quick_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens on port 9 (discard) of this machine.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=r"cannot be fetched: ConnectError.*PROFILE=offline"):
        find(tmp_path, ["config.json"], download=True)
    assert time.perf_counter() - start < 5


class Hub:
    """Stands in for the hub: what it lists, and which revision each file was asked at."""

    def __init__(self, cache: Path, listed: Sequence[str]) -> None:
        self.cache = cache
        self.listed = listed
        self.asked: list[tuple[str, str]] = []

    def model_info(self, *_: object, **__: object) -> huggingface_hub.ModelInfo:
        return huggingface_hub.ModelInfo(
            id=REPO, sha=COMMIT, siblings=[{"rfilename": name} for name in self.listed]
        )

    def download(self, repo: str, name: str, *, revision: str, cache_dir: Path) -> str:
        self.asked.append((name, revision))
        fake_cache(cache_dir, {name: name.encode()}, reference="main")
        return str(cache_dir / "models--owner--model" / "snapshots" / COMMIT / name)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", self.model_info)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.download)


def test_downloaded_files_are_all_of_the_first_ones_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path, ["sub/w.bin", "config.json", "vocab.json", "README.md"])
    hub.install(monkeypatch)
    files = ["sub/w.bin", "config.json", "tokenizer.json|vocab.json"]
    weights = find(tmp_path, files, optional=["absent.json"], download=True)
    assert weights is not None
    assert weights.identity.revision == COMMIT
    assert hub.asked == [("sub/w.bin", "main"), ("config.json", COMMIT), ("vocab.json", COMMIT)]
    assert find(tmp_path, files) == weights


def test_file_that_the_hub_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(tmp_path, ["pytorch_model.bin"]).install(monkeypatch)
    with pytest.raises(WeightsError, match=r"owner/model at revision main has no model\.saf"):
        find(tmp_path, ["model.safetensors"], download=True)


class Refusal:
    """As much of a response as the hub's errors look at."""

    headers: ClassVar[dict[str, str]] = {}
    request = None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("GatedRepoError", "it is gated"),
        ("RepositoryNotFoundError", "no such model, or it is private"),
        ("RevisionNotFoundError", "no such revision"),
        ("HfHubHTTPError", "HfHubHTTPError: 403 Client Error"),
    ],
)
def test_refusals_of_the_hub_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        error = getattr(huggingface_hub.errors, kind)
        raise error("403 Client Error.\n\nmore lines", response=Refusal())

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(WeightsError, match=words) as caught:
        find(tmp_path, ["config.json"], download=True)
    assert "\n" not in str(caught.value)


def test_offline_mode_and_ill_formed_ids_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError, match="HFValidationError"):
        hub_weights(
            "a/b/c", ["x"], revision=None, hashes=FileHashes(), download=True, cache_dir=tmp_path
        )

    def offline(*_: object, **__: object) -> None:
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline mode is enabled")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    with pytest.raises(WeightsError, match="offline mode is enabled"):
        find(tmp_path, ["config.json"], download=True)


def test_local_weights_are_named_by_id_never_by_path(tmp_path: Path) -> None:
    path = tmp_path / "my weights.pt"
    path.write_bytes(b"w")
    weights = local_weights("sam2-tiny", {path.name: path}, hashes=FileHashes())
    assert weights.identity.id == "sam2-tiny"
    assert str(tmp_path) not in repr(weights.identity)


def test_missing_local_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Weights of sam2: no such file: .*absent\.pt"):
        local_weights("sam2", {"absent.pt": tmp_path / "absent.pt"}, hashes=FileHashes())


def test_folder_weights_are_named_after_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my-clip"
    folder.mkdir()
    (folder / "config.json").write_bytes(b"{}")
    weights = folder_weights(folder, ["config.json"], hashes=FileHashes())
    assert weights.identity.id == "my-clip"
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        folder_weights(folder, ["config.json", "model.safetensors"], hashes=FileHashes())
    with pytest.raises(WeightsError, match="absent has no"):
        folder_weights(tmp_path / "absent", ["config.json"], hashes=FileHashes())


def test_hash_is_remembered_until_size_or_mtime_changes(tmp_path: Path) -> None:
    path, memo = tmp_path / "w.bin", tmp_path / "cache" / "hashes.json"
    path.write_bytes(b"one")
    os.utime(path, ns=(0, 1))
    first = FileHashes(memo).sha256(path)
    assert first == hashlib.sha256(b"one").hexdigest()

    path.write_bytes(b"two")
    os.utime(path, ns=(0, 1))
    assert FileHashes(memo).sha256(path) == first  # same size and mtime: not read again
    os.utime(path, ns=(0, 2))
    assert FileHashes(memo).sha256(path) == hashlib.sha256(b"two").hexdigest()
    assert [entry.name for entry in memo.parent.iterdir()] == ["hashes.json"]


def test_two_memos_on_one_file_keep_both_entries(tmp_path: Path) -> None:
    memo = tmp_path / "hashes.json"
    left, right = FileHashes(memo), FileHashes(memo)
    for name, hashes in (("a", left), ("b", right)):
        (tmp_path / name).write_bytes(name.encode())
        hashes.sha256(tmp_path / name)
    text = memo.read_text()
    assert hashlib.sha256(b"a").hexdigest() in text
    assert hashlib.sha256(b"b").hexdigest() in text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 3}', "\x00"])
def test_corrupt_memo_is_made_anew(tmp_path: Path, content: str) -> None:
    memo, path = tmp_path / "hashes.json", tmp_path / "w.bin"
    memo.write_text(content)
    path.write_bytes(b"w")
    assert FileHashes(memo).sha256(path) == hashlib.sha256(b"w").hexdigest()
    assert FileHashes(memo).sha256(path) == hashlib.sha256(b"w").hexdigest()


def test_memo_that_cannot_be_written_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(b"w")
    assert FileHashes(path / "hashes.json").sha256(path) == hashlib.sha256(b"w").hexdigest()
    assert "not remembered" in caplog.text


@pytest.mark.parametrize("error", [IndexError("list index"), RecursionError(), AssertionError("x")])
def test_whatever_a_library_raises_on_weights_is_one_sentence(error: Exception) -> None:
    weights = Weights(ModelIdentity("some-net", None, {}), {})
    with (
        pytest.raises(WeightsError, match=r"some-net do not load as a net: .*name a file"),
        loading(weights, "a net"),
    ):
        raise error


def test_memory_that_runs_out_while_loading_is_not_the_files_fault() -> None:
    with (
        pytest.raises(MemoryError),
        loading(Weights(ModelIdentity("some-net", None, {}), {}), "a net"),
    ):
        raise MemoryError
