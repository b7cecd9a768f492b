"""From hospital to hospital: methods of domain adaptation on cached features, and their table."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from medfocus_pipeline.adaptation.adversarial import Adversarial
from medfocus_pipeline.adaptation.alignment import Coral, Standardised, Subspace
from medfocus_pipeline.adaptation.alone import Alone
from medfocus_pipeline.adaptation.label_shift import LabelShift
from medfocus_pipeline.adaptation.protocol import Adapted, Method, Task
from medfocus_pipeline.config import method_config
from medfocus_pipeline.config.adaptation import AdaptationConfig

__all__ = ["METHODS", "Adapted", "Method", "MethodEntry", "Task", "make_method", "named"]


class MethodEntry(NamedTuple):
    """One method.

    Attributes:
        make: its configuration -> the method.
        reads_target_labels: the oracle alone: its task's source is the target.
        augmented: it learns from the augmented views too; the others get those without.
    """

    make: Callable[[Any], Method]
    reads_target_labels: bool = False
    augmented: bool = False


METHODS: Mapping[str, MethodEntry] = {
    "source": MethodEntry(Alone),
    "mlp": MethodEntry(Alone),
    "contrastive": MethodEntry(Alone),
    "supcon": MethodEntry(Alone),
    "dann": MethodEntry(Adversarial),
    "dann+augmentation": MethodEntry(Adversarial, augmented=True),
    "cdan": MethodEntry(Adversarial),
    "standardised": MethodEntry(Standardised),
    "coral": MethodEntry(Coral),
    "subspace": MethodEntry(Subspace),
    "label-shift": MethodEntry(LabelShift),
    "oracle": MethodEntry(Alone, reads_target_labels=True),
}
"""By the name that a configuration gives; what each is says its configuration."""


def make_method(config: AdaptationConfig) -> Method:
    """The method that a configuration names."""
    return METHODS[config.name].make(config)


def named(name: str) -> AdaptationConfig:
    """The configuration of a method with its defaults.

    Raises:
        ConfigError: there is no such method.
    """
    union: TypeAdapter[AdaptationConfig] = TypeAdapter(AdaptationConfig)
    return method_config(union, name, METHODS, what="method")
