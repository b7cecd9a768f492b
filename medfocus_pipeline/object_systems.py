"""Object stores, by way of fsspec; what goes wrong there is an `OSError` as of a disk."""

import errno
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.errors import ConfigError, one_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_EXTRAS = {"s3": "medfocus-pipeline[s3]", "s3a": "medfocus-pipeline[s3]", "gs": "gcsfs"}
"""Protocol -> what to install; fsspec names the others itself."""

_OPTIONS: dict[str, dict[str, Any]] = {"s3": {"max_concurrency": 1}, "s3a": {"max_concurrency": 1}}
"""One request an object: above 1, s3fs asks for the size first."""

_FULL = re.compile(r"QuotaExceeded|StorageFull|InsufficientStorage|Insufficient Storage|\b507\b")
"""What MinIO, Ceph and others say where there is no room; S3 itself is never full."""


@contextmanager
def calling(protocol: str, name: str) -> Iterator[tuple["AbstractFileSystem", str]]:
    """The file system of a protocol and the name; the boundary of all that it raises.

    Raises:
        ConfigError: nothing that is installed reads it.
        FileNotFoundError: there is no such object or bucket.
        PermissionError: the store refuses it.
        ConnectionError: the store cannot be reached, or breaks off.
        OSError: whatever else goes wrong.
    """
    system, shown = system_of(protocol), f"{protocol}://{name}"
    try:
        yield system, name
    except FileExistsError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, one_line(error), shown) from error
    except PermissionError as error:
        raise PermissionError(errno.EACCES, one_line(error), shown) from error
    except Exception as error:  # of botocore, aiohttp, google.api_core … dozens of classes
        text = one_line(error)
        if _FULL.search(text):
            raise OSError(errno.ENOSPC, text, shown) from error
        raise ConnectionError(errno.EIO, text, shown) from error


def system_of(protocol: str) -> "AbstractFileSystem":
    """The file system of a protocol, one for all threads of a process.

    fsspec keeps one for each thread, and each would begin with a connection of its own.

    Raises:
        ConfigError: nothing that is installed reads it.
    """
    known = _systems.setdefault(os.getpid(), {})
    with _lock:
        if protocol not in known:
            known[protocol] = _new_system(protocol)
        return known[protocol]


_lock = threading.Lock()
_systems: dict[int, dict[str, "AbstractFileSystem"]] = {}
"""By process: a connection does not outlive a fork."""


def _new_system(protocol: str) -> "AbstractFileSystem":
    import fsspec

    own = _OPTIONS.get(protocol, {})
    try:
        return fsspec.filesystem(
            protocol, use_listings_cache=False, skip_instance_cache=True, **own
        )
    except ImportError as error:
        needed = _EXTRAS.get(protocol)
        install = f"pip install '{needed}'" if needed else one_line(error)
        raise ConfigError(
            f"{protocol}:// needs a package that is missing here: {install}"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{protocol}:// is no address that can be read. Known are s3://bucket/prefix, gs://, "
            "file:/// and what else fsspec names: a folder of this machine needs no address."
        ) from error
