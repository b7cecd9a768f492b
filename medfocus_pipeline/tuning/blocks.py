"""A network's blocks in the order of its depth, told by the names of its parameters."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_BLOCK = re.compile(
    r"(?:^|\.)(?:blocks|layers?|resblocks|stages)[._]?\d+(?:\.(?:blocks\.|layers\.)?\d+)?(?=\.)"
)
"""``blocks.11``, ``layer4.2``, ``encoder.layers.3.blocks.1``, ``transformer.resblocks.5`` …"""

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


def block_of(name: str) -> str:
    """The block that a parameter is in; empty if it is in none.

    >>> block_of("trunk.blocks.11.attn.qkv.weight"), block_of("layer4.2.bn1.bias")
    ('trunk.blocks.11', 'layer4.2')
    >>> block_of("vision_model.post_layernorm.weight")
    ''
    """
    found = _BLOCK.search(name)
    return name[: found.end()] if found else ""


def depths(names: Sequence[str]) -> dict[str, int]:
    """Parameter -> its block's depth: 0 is before the first block, the greatest after the last.

    Args:
        names: in the order in which the network registers them.
    """
    blocks = [block for block in dict.fromkeys(map(block_of, names)) if block]
    last = max((n for n, name in enumerate(names) if block_of(name)), default=-1)
    places = {block: 1 + place for place, block in enumerate(blocks)}
    return {
        name: places.get(block_of(name), 0 if n < last else 1 + len(blocks))
        for n, name in enumerate(names)
    }


def last_block(names: Sequence[str]) -> str:
    """The last block; empty of a network without any."""
    return next((block for block in map(block_of, reversed(names)) if block), "")


def attention_layers(network: "nn.Module") -> list[str]:
    """Names of the modules that adapters of low rank stand beside: linear ones of attention.

    Torch's own attention keeps its matrices to itself, so that it is one of them as a whole.
    """
    from torch import nn

    whole = [
        name for name, one in network.named_modules() if isinstance(one, nn.MultiheadAttention)
    ]
    linear = [
        name
        for name, one in network.named_modules()
        if isinstance(one, nn.Linear)
        and _ATTENTION.search(name)
        and not any(name.startswith(f"{other}.") for other in whole)
    ]
    return [*whole, *linear]


def rates(names: Sequence[str], *, decay: float) -> Mapping[str, float]:
    """Parameter -> its learning rate as a share of the greatest: less for each block below.

    (Howard and Ruder 2018, ULMFiT, section 3.2: discriminative fine-tuning.)
    """
    found = depths(names)
    top = max(found.values(), default=0)
    return {name: decay ** max(0, top - 1 - depth) for name, depth in found.items()}
