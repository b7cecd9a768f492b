"""Features of a file that were computed elsewhere: a researcher's own embedding, in the table.

Parquet has a column ``image_id`` (the manifest's) or ``path`` (relative to the images' folder), and
either one list column or the features as float columns, in order. A ``.npy`` has ``(n, d)`` numbers
and beside it a text file of the same name, one id or path a line.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from medfocus_pipeline.config import FeaturesConfig, Runtime
from medfocus_pipeline.errors import ConfigError, DataError, WeightsError
from medfocus_pipeline.types import Encoded, FloatArray, Image
from medfocus_pipeline.weights import FileHashes, Weights, local_weights

_FEATURES, _IDS = "features", "ids"
"""Names in the identity: renaming a file changes no numbers."""

_KEYS = ("image_id", "path")
_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFile:
    """An `Encoder` that knows its images by name and has never seen one.

    Attributes:
        name: of the file, for messages.
        keys: n image ids, or paths relative to the images' folder.
        rows: ``(n, d) float32``.
    """

    name: str
    keys: tuple[str, ...]
    rows: FloatArray

    batch_size = 256
    side = 1
    token_grid = None

    @property
    def dim(self) -> int:
        """d, of the features."""
        return int(self.rows.shape[1])

    def match(self, images: Mapping[str, Iterable[str]]) -> tuple[dict[str, FloatArray], list[str]]:
        """The features of each image, by its id or one of its paths.

        Args:
            images: image id -> its paths, of byte-equal files several.

        Returns:
            Image id -> ``(d,) float32``; and the keys of the file that are no image's.

        Raises:
            DataError: images have no features; the first are named.
        """
        place = {key: row for row, key in enumerate(self.keys)}
        found: dict[str, FloatArray] = {}
        missing, known = [], set()
        for image_id, paths in images.items():
            names = [image_id, *paths]
            known.update(names)
            row = next((place[name] for name in names if name in place), None)
            if row is None:
                missing.append(names[-1])
            else:
                found[image_id] = self.rows[row]
        surplus = [key for key in self.keys if key not in known]
        if missing:
            extra = f" It has {listed(surplus)} that are no images here." if surplus else ""
            raise DataError(
                f"{self.name} has no features of {len(missing):,} of {len(images):,} images: "
                f"{listed(missing)}.{extra} Keys are image ids of the manifest, or paths relative "
                "to the images' folder: add those rows, or take those images out."
            )
        return found, surplus

    def prepare(self, image: Image) -> NoReturn:
        """Refused.

        Raises:
            ConfigError: always.
        """
        del image
        raise self._blind()

    def encode(self, pictures: NDArray[Any]) -> Encoded:
        """Refused, as `prepare` is."""
        del pictures
        raise self._blind()

    def _blind(self) -> ConfigError:
        return ConfigError(
            f"The features of {self.name} were computed elsewhere, so new images cannot be "
            "looked at. Use an encoder: medfocus models list."
        )


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many there are."""
    first = ", ".join(names[:_NAMED])
    return first if len(names) <= _NAMED else f"{first} and {len(names) - _NAMED:,} more"


def features_id(config: FeaturesConfig) -> str:
    """The file's name, without its ending."""
    return config.file.stem


def find_features(
    config: FeaturesConfig,
    hashes: FileHashes,
    *,
    download: bool,  # noqa: ARG001  (every `find_*` takes it)
) -> Weights:
    """The file, and that of the ids beside it.

    Raises:
        WeightsError: one of them is missing.
    """
    files = {_FEATURES: config.file.expanduser()}
    if config.file.suffix == ".npy":
        files[_IDS] = (config.ids or config.file.with_suffix(".txt")).expanduser()
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        raise WeightsError(
            f"Features: no such file: {', '.join(missing)}. Name a .parquet, or a .npy with its "
            "ids or paths, one a line, in a .txt of the same name: medfocus embed --features FILE "
            "[--set encoder.ids=FILE]."
        )
    return local_weights(features_id(config), files, hashes=hashes)


def load_features(config: FeaturesConfig, weights: Weights, runtime: Runtime) -> FeatureFile:
    """Read the file.

    Raises:
        WeightsError: it is none of features, keys repeat, or a number is not finite.
    """
    del runtime  # nothing is computed
    path = weights.paths[_FEATURES]
    try:
        if config.file.suffix == ".npy":
            # Mapped, so that a header cannot promise more than the file has.
            rows: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
            keys = weights.paths[_IDS].read_text(encoding="utf-8").split("\n")
            keys = keys[:-1] if keys[-1] == "" else keys
        else:
            keys, rows = _columns(parquet.read_table(path))
        return _checked(path.name, [_plain(key) for key in keys], np.asarray(rows))
    except MemoryError:
        raise
    except Exception as error:  # numpy raises what tokenize does, pyarrow its own
        raise WeightsError(
            f"{path.name} has no features to read: {error}. Write it as docs/extending.md says."
        ) from error


def _columns(table: pa.Table) -> tuple[list[str], NDArray[Any]]:
    key = next((name for name in _KEYS if name in table.column_names), None)
    if key is None:
        raise ValueError(f"its columns are {', '.join(table.column_names)}, none of image_id, path")
    lists = [field.name for field in table.schema if _is_list(field.type)]
    numbers = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    if len(lists) > 1 or not (lists or numbers):
        raise ValueError(
            f"expected one list column or float columns, got {', '.join(lists) or 'neither'}"
        )
    if lists:
        rows = np.array([np.asarray(row, np.float32) for row in table[lists[0]].to_pylist()])
    else:
        rows = np.stack([table[name].to_numpy() for name in numbers], axis=1)
    return [str(name) for name in table[key].to_pylist()], rows


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _plain(key: str) -> str:
    """A path as the manifest spells it; an id stays as it is."""
    return PurePath(key.strip().replace("\\", "/")).as_posix()


def _checked(name: str, keys: list[str], rows: NDArray[Any]) -> FeatureFile:
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not rows.shape[1]:
        raise ValueError(f"expected (n, d) numbers, got {rows.shape} {rows.dtype}")
    if len(keys) != len(rows):
        raise ValueError(f"it has {len(rows):,} rows and {len(keys):,} ids")
    if len(set(keys)) < len(keys):
        twice = [key for key, count in Counter(keys).items() if count > 1]
        raise ValueError(f"{listed(twice)} stand in it twice")
    wrong = [key for key, fine in zip(keys, np.isfinite(rows).all(axis=1), strict=True) if not fine]
    if wrong:
        raise ValueError(f"features of {listed(wrong)} are not finite")
    return FeatureFile(name, tuple(keys), rows.astype(np.float32))
