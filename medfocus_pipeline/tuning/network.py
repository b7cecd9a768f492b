"""A network with a classification layer on its pooled embedding, and what of both is trained."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config.tuning import FinetuneConfig, Trained
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.tuning.blocks import attention_layers, block_of, depths, last_block, rates
from medfocus_pipeline.types import FloatArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

LAYER = "layer."
"""Begins the names of the classification layer's tensors; the network's begin with"""
NETWORK = "network."

_LAYER_RATES = {f"{LAYER}weight": 1.0, f"{LAYER}bias": 1.0}


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network and its layer, in evaluation mode: batch norms and dropout stay as they are.

    Batches of a few images would spoil the statistics of a batch norm.

    Attributes:
        tower: the encoder; its weights are changed.
        layer: on the embedding, which is brought to length 1 as every head has it.
        entry: the trained block, where what comes below it is computed once; None if it is not.
        rates: name -> share of the learning rate, of what is trained.
        trained: see `Trained`.
    """

    tower: ImageTower
    layer: "nn.Linear"
    entry: "nn.Module | None"
    rates: Mapping[str, float]
    trained: Trained

    @property
    def device(self) -> "torch.device":
        """Where it is."""
        return self.tower.mean.device

    def parameters(self) -> "dict[str, nn.Parameter]":
        """What is trained, by name."""
        every = {f"{LAYER}{name}": one for name, one in self.layer.named_parameters()}
        if self.tower.network is not None:
            named = self.tower.network.named_parameters()
            every |= {f"{NETWORK}{name}": one for name, one in named}
        return {name: every[name] for name in self.rates}

    @property
    def layer_alone(self) -> bool:
        """Whether nothing of the network itself is trained."""
        return self.trained == "layer"

    @property
    def computed_once(self) -> bool:
        """Whether `inputs` does a part of the network's work."""
        return self.layer_alone or self.entry is not None

    def inputs(self, pictures: NDArray[np.uint8]) -> "Tensor":
        """What `logits` takes of pictures ``(n, s, s, 3) uint8``, ``(n, ...)`` on the CPU.

        Embeddings where the layer alone is trained, what goes into the trained block where
        `entry` is one, else the pictures.
        """
        import torch

        pixels = torch.from_numpy(np.require(pictures, np.uint8, ["C", "W"]))
        if not self.computed_once:
            return pixels
        with torch.no_grad():
            if self.layer_alone:
                return self.tower.embed(pixels).cpu()
            return _entering(self.tower, self.entry, pixels).float().cpu()

    def logits(self, inputs: "Tensor") -> "Tensor":
        """``(n, K) float32``, with gradients."""
        import torch

        inputs = inputs.to(self.device)
        if self.layer_alone:
            pooled = inputs
        elif self.entry is not None:
            pooled = _from_entry(self.tower, self.entry, inputs)
        else:
            pooled = self.tower.embed(inputs)
        unit = torch.nn.functional.normalize(pooled, dim=1)
        found: Tensor = self.layer(unit)
        return found

    def embeddings(self, inputs: "Tensor") -> FloatArray:
        """Of `inputs`, ``(n, d) float32`` of length 1, without gradients."""
        import torch

        with torch.no_grad():
            if self.layer_alone:
                pooled = inputs
            elif self.entry is not None:
                pooled = _from_entry(self.tower, self.entry, inputs.to(self.device))
            else:
                pooled = self.tower.embed(inputs)
            unit: FloatArray = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return unit


def build(
    encoder: Encoder, config: FinetuneConfig, *, classes: int, label: str, seed: int = 0
) -> Network:
    """An encoder with a layer for its classes, and what is to be trained of it.

    Args:
        encoder: freshly loaded; its weights are changed by training.
        config: what is trained.
        classes: K.
        label: of the encoder, for messages.
        seed: of the adapters' first weights.

    Raises:
        ConfigError: the encoder has no network to train, or no attention for `lora`.
    """
    import torch

    network, tower = prepared(encoder, config, label=label, seed=seed)
    wanted = _wanted(network, config, label)
    layer = torch.nn.Linear(tower.dim, classes).to(tower.mean.device)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    if config.trained == "layer":
        return Network(tower, layer, None, _LAYER_RATES, config.trained)
    named = dict(network.named_parameters())
    for name in wanted:
        named[name].requires_grad_(True)
    entry = _entry(tower, list(named)) if config.trained == "last_block" else None
    kept = {name for name in _reached(tower, entry, named) if name in wanted}
    for name in wanted.keys() - kept:
        named[name].requires_grad_(False)
    own = {f"{NETWORK}{name}": rate for name, rate in wanted.items() if name in kept}
    return Network(tower, layer, entry, {**_LAYER_RATES, **own}, config.trained)


def prepared(
    encoder: Encoder, config: FinetuneConfig, *, label: str, seed: int = 0
) -> "tuple[nn.Module, ImageTower]":
    """The network of an encoder, frozen, with the adapters that `lora` adds.

    Raises:
        ConfigError: there is none, or no attention for `lora`.
    """
    import torch

    if not isinstance(encoder, ImageTower) or encoder.network is None:
        raise ConfigError(
            f"{label} shows no network that could be trained. Name another: --model "
            "efficientnet-lite0, or medfocus models list."
        )
    network = encoder.network
    network.eval().requires_grad_(False)
    if config.trained == "lora":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _add_adapters(network, config.rank, label)
    return network, encoder


def _wanted(network: "nn.Module", config: FinetuneConfig, label: str) -> dict[str, float]:
    """Parameter of the network -> share of the learning rate, of what should be trained."""
    names = [name for name, _ in network.named_parameters()]
    match config.trained:
        case "layer":
            return {}
        case "lora":
            return {name: 1.0 for name in names if "lora_" in name}
        case "all":
            return dict(rates(names, decay=config.block_decay))
    block = last_block(names)
    if not block:
        raise ConfigError(
            f"{label} has no blocks that MedFocus knows, so no last one. Train --what layer or all."
        )
    found = depths(names)
    first = next(found[name] for name in names if block_of(name) == block)
    return {name: 1.0 for name in names if found[name] >= first}


def _add_adapters(network: "nn.Module", rank: int, label: str) -> None:
    """Put a product of two small matrices beside each matrix of attention (Hu et al. 2022)."""
    layers = attention_layers(network)
    if not layers:
        raise ConfigError(
            f"{label} has no attention, which LoRA adapts. Train --what last_block, layer or all."
        )
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers)
    inject_adapter_in_model(settings, network)
    network.eval()


def _entry(tower: ImageTower, names: list[str]) -> "nn.Module | None":
    """The last block, if the network is the same when it is entered there.

    It is not where something behind the block looks at maps from before it, as the neck of a
    SAM 2 does.
    """
    import torch

    if tower.network is None:
        return None
    block = tower.network.get_submodule(last_block(names))
    drawn = np.random.default_rng(0).integers(0, 256, (2, tower.side, tower.side, 3), np.uint8)
    pixels = torch.from_numpy(drawn)
    with torch.no_grad():
        whole = tower.embed(pixels)
        again = _from_entry(tower, block, _entering(tower, block, pixels))
    same = whole.shape == again.shape and torch.allclose(whole, again, rtol=1e-3, atol=1e-4)
    return block if same else None


def _reached(
    tower: ImageTower, entry: "nn.Module | None", named: "Mapping[str, nn.Parameter]"
) -> set[str]:
    """Parameters that the embedding depends on: a head that is not run has none of them."""
    import torch

    pixels = torch.zeros(1, tower.side, tower.side, 3, dtype=torch.uint8)
    if entry is None:
        pooled = tower.embed(pixels)
    else:
        with torch.no_grad():
            inside = _entering(tower, entry, pixels)
        pooled = _from_entry(tower, entry, inside)
    pooled.sum().backward()  # type: ignore[no-untyped-call]
    found = {name for name, one in named.items() if one.grad is not None}
    for one in named.values():
        one.grad = None
    return found


def _entering(tower: ImageTower, entry: "nn.Module | None", pixels: "Tensor") -> "Tensor":
    """What goes into a block, ``(n, ...)``."""
    seen: list[Tensor] = []

    def note(value: "Tensor") -> "Tensor":
        seen.append(value)
        return value

    with _before(entry, note):
        tower.embed(pixels)
    return seen[0]


def _from_entry(tower: ImageTower, entry: "nn.Module", inside: "Tensor") -> "Tensor":
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
