"""A network with a classification layer on its pooled embedding, and what of both is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config.tuning import FinetuneConfig, Trained
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.tuning.blocks import attention_layers, block_of, depths, last_block, rates
from medfocus_pipeline.tuning.entry import entering, entry_of, from_entry, reached

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
        return self.tower.device

    def parameters(self) -> "dict[str, nn.Parameter]":
        """What is trained, by name."""
        every = {f"{LAYER}{name}": one for name, one in self.layer.named_parameters()}
        named = self.tower.model.network.named_parameters()
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
            return entering(self.tower, self.entry, pixels).float().cpu()

    def logits(self, inputs: "Tensor") -> "Tensor":
        """``(n, K) float32``, with gradients."""
        found: Tensor = self.layer(self._unit(inputs))
        return found

    def embeddings(self, inputs: "Tensor") -> "Tensor":
        """Of `inputs`, ``(n, d) float32`` of length 1 on the CPU, without gradients."""
        import torch

        with torch.no_grad():
            return self._unit(inputs).cpu()

    def _unit(self, inputs: "Tensor") -> "Tensor":
        from torch.nn.functional import normalize

        pooled = inputs.to(self.device)
        if self.entry is not None:
            pooled = from_entry(self.tower, self.entry, pooled)
        elif not self.layer_alone:
            pooled = self.tower.embed(pooled)
        return normalize(pooled, dim=1)


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
    layer = torch.nn.Linear(tower.dim, classes).to(tower.device)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    if config.trained == "layer":
        return Network(tower, layer, None, _LAYER_RATES, config.trained)
    named = dict(network.named_parameters())
    for name in wanted:
        named[name].requires_grad_(True)
    entry = entry_of(tower, list(named)) if config.trained == "last_block" else None
    kept = {name for name in reached(tower, entry, named) if name in wanted}
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

    if not isinstance(encoder, ImageTower):
        raise ConfigError(
            f"{label} shows no network that could be trained. Name another: --model "
            "efficientnet-lite0, or medfocus models list."
        )
    network = encoder.model.network
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
