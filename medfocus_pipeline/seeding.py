"""Random generators derived from names, so that no draw depends on another."""

import hashlib

import numpy as np


def generator(*parts: int | str) -> np.random.Generator:
    """An independent generator for a place in the program.

    Args:
        parts: what the draw is for, e.g. ``("subset", dataset, seed)``; 0 is a valid seed.

    Returns:
        A PCG64 generator that is the same for the same parts, on every machine.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
