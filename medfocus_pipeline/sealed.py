"""Files of the cache that tell whether they are what was written; the JSON ones are here.

A seal is the SHA-256 of whom the file belongs to and of its content. A file that was read and is
not what was written raises `DamagedError`; one that could not be read raises `AccessError`, and
nobody may take that for damage. What json raises on content ends here.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from medfocus_pipeline.errors import AccessError, DamagedError
from medfocus_pipeline.files import write_text
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.types import JSON

SEAL = "sha256"
"""Key of the seal in a JSON file."""


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        DamagedError: there is no such file.
        AccessError: it cannot be read now.
    """
    with reading(path) as file:
        return file.read()


def read_all(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The content of several files below a folder; of an object store at a time.

    Raises:
        DamagedError: one is not there.
        AccessError: one cannot be read now.
    """
    if not isinstance(folder, ObjectPath):
        return {name: read_bytes(folder / name) for name in names}
    try:
        return folder.read_all(names)
    except FileNotFoundError as error:
        raise DamagedError(f"{error.filename} is missing") from error
    except OSError as error:
        raise no_access(folder, error) from error


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """A file that is read bit by bit.

    Raises:
        DamagedError: there is no such file.
        AccessError: it cannot be read now.
    """
    try:
        with path.open("rb") as file:
            yield file
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedError(f"{path} is missing") from error
    except OSError as error:
        raise no_access(path, error) from error


def present(path: Path) -> bool:
    """Whether there is such a file or folder.

    Raises:
        AccessError: that cannot be told now; `Path.exists` raises an `OSError`.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise no_access(path, error) from error
    return True


def no_access(path: Path, error: OSError) -> AccessError:
    """What to say of a file that the system does not let one read."""
    return AccessError(
        f"{path} cannot be read now: {error.strerror or error}. It may be whole, so nothing was "
        "changed: see to the right to read it, or to the disk, then run the same command again."
    )


def write_json(path: Path, value: JSON, *, owner: str, free: Collection[str] = ()) -> None:
    """Write a JSON object with a seal, whole or not at all; an equal file is left alone.

    Args:
        free: keys that anyone may change: the seal leaves them out.

    Raises:
        OSError: the disk is full or does not let itself be written to.
    """
    sealed = {**value, SEAL: _json_seal(value, owner, free)}
    write_text(path, json.dumps(sealed, indent=2) + "\n")


def read_json(path: Path, *, owner: str, free: Collection[str] = ()) -> JSON:
    """A sealed JSON object, without its seal; `free` as it was written with.

    Raises:
        DamagedError: it is missing, was changed, or belongs to something else.
        AccessError: it cannot be read now.
    """
    value = parse_json(path)
    if not isinstance(value, dict) or SEAL not in value:
        raise DamagedError(f"{path} has no seal: it was changed, or is of another version")
    seal = value.pop(SEAL)
    if _json_seal(value, owner, free) != seal:
        raise DamagedError(f"{path} is not what was written there: its content was changed")
    return value


def parse_json(path: Path, content: bytes | None = None) -> Any:
    """What a JSON file says, sealed or not.

    Args:
        content: of the file, if it was read.

    Raises:
        DamagedError: it is missing or no JSON.
        AccessError: it cannot be read now.
    """
    try:
        return json.loads(read_bytes(path) if content is None else content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is no JSON that can be read: {error}") from error


def canonical_json(value: object) -> bytes:
    """One spelling for equal values: sorted keys, no spaces, ASCII.

    Raises:
        ValueError: the value holds NaN or an infinity, which JSON cannot spell.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def _json_seal(value: JSON, owner: str, free: Collection[str]) -> str:
    bound = {name: one for name, one in value.items() if name not in free}
    return seal_of(canonical_json(bound), owner).decode()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def seal_of(content: bytes | memoryview, owner: str) -> bytes:
    """The seal of a content, 64 hex digits."""
    seal = hashlib.sha256(owner.encode() + b"\n")
    seal.update(content)
    return seal.hexdigest().encode()
