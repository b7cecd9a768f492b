"""Entering a network at its last block: what comes below it need not be computed again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.tuning.blocks import last_block

if TYPE_CHECKING:
    from torch import Tensor, nn


def entry_of(tower: ImageTower, names: list[str]) -> "nn.Module | None":
    """The last block, if the network is the same when it is entered there.

    It is not where something behind the block looks at maps from before it, as the neck of a
    SAM 2 does.
    """
    import torch

    block = tower.model.network.get_submodule(last_block(names))
    drawn = np.random.default_rng(0).integers(0, 256, (2, tower.side, tower.side, 3), np.uint8)
    pixels = torch.from_numpy(drawn)
    with torch.no_grad():
        whole = tower.embed(pixels)
        again = from_entry(tower, block, entering(tower, block, pixels))
    same = whole.shape == again.shape and torch.allclose(whole, again, rtol=1e-3, atol=1e-4)
    return block if same else None


def reached(
    tower: ImageTower, entry: "nn.Module | None", named: "Mapping[str, nn.Parameter]"
) -> set[str]:
    """Parameters that the embedding depends on: a head that is not run has none of them."""
    import torch

    pixels = torch.zeros(1, tower.side, tower.side, 3, dtype=torch.uint8)
    if entry is None:
        pooled = tower.embed(pixels)
    else:
        with torch.no_grad():
            inside = entering(tower, entry, pixels)
        pooled = from_entry(tower, entry, inside)
    pooled.sum().backward()  # type: ignore[no-untyped-call]
    found = {name for name, one in named.items() if one.grad is not None}
    for one in named.values():
        one.grad = None
    return found


def entering(tower: ImageTower, entry: "nn.Module | None", pixels: "Tensor") -> "Tensor":
    """What goes into a block, ``(n, ...)``."""
    seen: list[Tensor] = []

    def note(value: "Tensor") -> "Tensor":
        seen.append(value)
        return value

    with _before(entry, note):
        tower.embed(pixels)
    return seen[0]


def from_entry(tower: ImageTower, entry: "nn.Module", inside: "Tensor") -> "Tensor":
    """The pooled feature of what goes into a block; a single black picture is computed below it."""
    import torch

    black = torch.zeros(1, tower.side, tower.side, 3, dtype=torch.uint8)
    with _before(entry, lambda _: inside):
        return tower.embed(black)


@contextmanager
def _before(entry: "nn.Module | None", change: Any) -> Iterator[None]:
    """Inside, a block takes what `change` makes of its first argument."""
    if entry is None:
        raise ValueError("there is no block to enter")

    def hook(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if arguments:
            return (change(arguments[0]), *arguments[1:]), keywords
        name = next(iter(keywords))
        return arguments, {**keywords, name: change(keywords[name])}

    handle = entry.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
