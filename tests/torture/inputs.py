"""Images that are cut off, flipped or lie about their size, one at a time, in little memory."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from medfocus_pipeline.datasets.readers import read_image
from medfocus_pipeline.errors import ImageError
from tests.torture.trial import TRACEBACK, Counts, forked

_MEMORY = 2 * 1024**3
_FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "webp": "WEBP", "bmp": "BMP"}


def hostile(number: int, rng: np.random.Generator) -> tuple[str, bytes]:
    """Ending and content of a file: cut off, or with some bytes of its header or data changed."""
    ending = list(_FORMATS)[number % len(_FORMATS)]
    target = io.BytesIO()
    grey = rng.integers(0, 256, (40, 56), np.uint8)
    Image.fromarray(grey).save(target, _FORMATS[ending])
    content = bytearray(target.getvalue())
    if number % 3 == 0:
        return ending, bytes(content[: int(rng.integers(len(content)))])
    reach = min(len(content), 64 if number % 3 == 1 else len(content))
    for place in rng.integers(reach, size=3):
        content[place] = rng.integers(256)
    return ending, bytes(content)


def inputs(root: Path, count: int, rng: np.random.Generator) -> Counts:
    """Read hostile images; each is a picture or an `ImageError`."""
    counts = Counts()
    for number in range(count):
        ending, content = hostile(number, rng)
        path = root / f"hostile.{ending}"
        path.write_bytes(content)
        code = forked(lambda path=path: _read(path), root / "log", memory=_MEMORY)
        outcome = {0: "no harm", 1: "refused clearly"}.get(code, TRACEBACK)
        counts.note(outcome, f"input {number}, {ending}: {(root / 'log').read_text()[-500:]}")
    return counts


def _read(path: Path) -> int:
    try:
        read_image(path)
    except ImageError as error:
        print(error)
        return 1
    return 0
