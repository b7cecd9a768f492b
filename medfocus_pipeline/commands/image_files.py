"""Image files that a command line names: which are meant, and reading them ahead."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from medfocus_pipeline.datasets.readers import EXTENSIONS, Decoded, decode
from medfocus_pipeline.datasets.tree import find_images
from medfocus_pipeline.errors import ConfigError, ImageError

_READERS = 2


@dataclass(frozen=True, slots=True)
class Source:
    """One file that was asked for.

    Attributes:
        name: what its overlay is called, unique among all, without the ending.
    """

    path: Path
    name: str


def find(paths: Sequence[Path]) -> list[Source]:
    """The files that are meant, each once; what does not exist is kept, and fails when read.

    Raises:
        ConfigError: a folder has no image.
    """
    files: dict[Path, str] = {}
    for path in paths:
        if not path.is_dir():
            files.setdefault(path, _bare(path.name))
            continue
        inside = [path / file.path for file in find_images(path)]
        if not inside:
            raise ConfigError(
                f"{path} has no image. Expected are files that end in "
                f"{', '.join(sorted(EXTENSIONS))}; a file of another name is named itself."
            )
        for one in inside:
            files.setdefault(one, _bare("_".join(one.relative_to(path).parts)))
    taken: set[str] = set()
    sources = []
    for path, name in files.items():
        numbered = (name if number == 1 else f"{name}-{number}" for number in count(1))
        free = next(one for one in numbered if one not in taken)
        taken.add(free)
        sources.append(Source(path, free))
    return sources


def _bare(name: str) -> str:
    """A file's name without an ending that images have."""
    endings = sorted((end for end in EXTENSIONS if name.lower().endswith(end)), key=len)
    return name[: -len(endings[-1])] or name if endings else name


def read(
    sources: Sequence[Source], problems: dict[str, str], *, at_once: int
) -> Iterator[tuple[int, list[tuple[Source, Decoded]]]]:
    """The images, some at once, the next ones read meanwhile.

    Args:
        problems: path -> why, of what cannot be read, is added here.

    Yields:
        How many files more were tried, and the decoded images among them, with none if all failed.
    """
    groups = [sources[n : n + at_once] for n in range(0, len(sources), at_once)]
    with ThreadPoolExecutor(_READERS, "reader") as pool:
        ahead: deque[list[Future[Decoded | str]]] = deque()
        for number, group in enumerate(groups):
            for later in groups[number + len(ahead) : number + 2]:
                ahead.append([pool.submit(_open, one) for one in later])
            opened = [future.result() for future in ahead.popleft()]
            good = []
            for one, found in zip(group, opened, strict=True):
                if isinstance(found, str):
                    problems[str(one.path)] = found
                else:
                    good.append((one, found))
            yield len(group), good


def _open(source: Source) -> Decoded | str:
    """The image, or why there is none."""
    try:
        return decode(source.path)
    except ImageError as error:
        return str(error)
