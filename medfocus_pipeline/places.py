"""Where images and caches are: folders of this machine, or prefixes of an object store.

Everything else takes a path; what the two do not have in common is here, in `files` and in the
locks.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.object_systems import system_of

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
"""As a path ``s3://a`` is ``s3:/a``; a drive of Windows has one letter."""


def place(named: Path | str) -> Path:
    """A path as it was named: of this machine, or an `ObjectPath` if it is an address.

    >>> place("s3://bucket/brain") / "masks"
    ObjectPath('s3://bucket/brain/masks')
    >>> place("file:///data/brain"), place("data/brain")
    (PosixPath('/data/brain'), PosixPath('data/brain'))

    Raises:
        ConfigError: nothing that is installed reads such an address.
    """
    if isinstance(named, ObjectPath):
        return named
    path, found = Path(named), _ADDRESS.match(str(named))
    if not found or path.exists():
        return path
    protocol, rest = found[1].lower(), str(named)[found.end() :]
    if protocol in {"file", "local"}:
        return Path("/", rest)
    system_of(protocol)
    if not rest.strip("/"):
        raise ConfigError(f"{protocol}:// names no bucket. Name one: {protocol}://bucket/prefix")
    return ObjectPath(f"{protocol}:", rest)


def names_in(folder: Path) -> list[str]:
    """Names of what lies in a folder, without a path for each."""
    return folder.names() if isinstance(folder, ObjectPath) else os.listdir(folder)  # noqa: PTH208


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """The file itself, or for as long as it is read a copy of the object; its name ends alike.

    Raises:
        OSError: this one object cannot be read.
        DataError: none can, since the store does not answer.
    """
    if not isinstance(path, ObjectPath):
        yield path
        return
    try:
        content = path.read_bytes()
    except ConnectionError as error:
        _check_answers(path, error)
        raise
    with tempfile.TemporaryDirectory(prefix="medfocus-object-") as folder:
        copy = Path(folder, path.name[-60:])  # a key may be longer than a file's name
        copy.write_bytes(content)
        yield copy


def _check_answers(path: ObjectPath, error: ConnectionError) -> None:
    try:
        path.exists()
    except ConnectionError:
        raise DataError(
            f"{path.parent} cannot be reached now: {error.strerror}. See to the network or to "
            "AWS_ENDPOINT_URL, then run the same command again; what was finished is kept."
        ) from error
