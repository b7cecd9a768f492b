"""How a learning rate falls while something is trained."""

import math


def cosine(done: float, whole: float) -> float:
    """Share of the learning rate that is left: from 1 down half a cosine to 0.

    Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts.

    Args:
        done: of the training, in steps, epochs or parts.
        whole: all of it, in the same.
    """
    return 0.5 * (1 + math.cos(math.pi * done / whole))
