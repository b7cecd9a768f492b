"""From hospital to hospital: methods of domain adaptation on cached features, and their table."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from medfocus_pipeline.adaptation.adversarial import Adversarial
from medfocus_pipeline.adaptation.alignment import Coral, Standardised, Subspace
from medfocus_pipeline.adaptation.alone import Alone
from medfocus_pipeline.adaptation.label_shift import LabelShift
from medfocus_pipeline.adaptation.protocol import Adapted, Method, Task
from medfocus_pipeline.config import Frozen
from medfocus_pipeline.config.adaptation import (
    AdaptationConfig,
    AugmentedDannConfig,
    CdanConfig,
    CoralConfig,
    DannConfig,
    LabelShiftConfig,
    OracleConfig,
    SourceConfig,
    SourceContrastiveConfig,
    SourceMlpConfig,
    SourceSupConConfig,
    StandardisedConfig,
    SubspaceConfig,
)
from medfocus_pipeline.errors import ConfigError, did_you_mean
from medfocus_pipeline.heads.table import make_head

__all__ = ["METHODS", "Adapted", "Method", "MethodEntry", "Task", "make_method", "named"]


class MethodEntry(NamedTuple):
    """One method.

    Attributes:
        config: the type of its configuration, whose defaults are the method.
        make: its configuration -> the method.
        what: one line about it.
        source: the paper that it is from.
        seeded: whether the seed does more than draw the subset.
        reads_target_labels: the oracle alone: its task's source is the target.
        augmented: it learns from the augmented views too; the others get those without.
    """

    config: Callable[[], Frozen]
    make: Callable[[Any], Method]
    what: str
    source: str
    seeded: bool
    reads_target_labels: bool = False
    augmented: bool = False


METHODS: Mapping[str, MethodEntry] = {
    "source": MethodEntry(
        SourceConfig,
        lambda config: Alone(make_head(config.head)),
        "logistic regression on the source alone",
        "a baseline",
        seeded=False,
    ),
    "mlp": MethodEntry(
        SourceMlpConfig,
        lambda config: Alone(make_head(config.head)),
        "three layers on the source alone",
        "a baseline",
        seeded=True,
    ),
    "contrastive": MethodEntry(
        SourceContrastiveConfig,
        lambda config: Alone(make_head(config.head)),
        "a projection learned from pairs of the source's images",
        "Hadsell et al. 2006",
        seeded=True,
    ),
    "supcon": MethodEntry(
        SourceSupConConfig,
        lambda config: Alone(make_head(config.head)),
        "the same with the supervised contrastive loss",
        "Khosla et al. 2020",
        seeded=True,
    ),
    "dann": MethodEntry(
        DannConfig,
        Adversarial,
        "hidden features from which the domain cannot be told",
        "Ganin et al. 2016",
        seeded=True,
    ),
    "dann+augmentation": MethodEntry(
        AugmentedDannConfig,
        Adversarial,
        "the same with augmented views",
        "Ganin et al. 2016",
        seeded=True,
        augmented=True,
    ),
    "cdan": MethodEntry(
        CdanConfig,
        Adversarial,
        "hidden features and classes from which the domain cannot be told",
        "Long et al. 2018",
        seeded=True,
    ),
    "standardised": MethodEntry(
        StandardisedConfig,
        Standardised,
        "source-only, each domain standardised by itself",
        "a baseline",
        seeded=False,
    ),
    "coral": MethodEntry(
        CoralConfig,
        Coral,
        "the source with the target's covariance",
        "Sun et al. 2016",
        seeded=False,
    ),
    "subspace": MethodEntry(
        SubspaceConfig,
        Subspace,
        "the source's principal axes turned into the target's",
        "Fernando et al. 2013",
        seeded=False,
    ),
    "label-shift": MethodEntry(
        LabelShiftConfig,
        LabelShift,
        "source-only for the target's class shares, which EM estimates",
        "Saerens et al. 2002",
        seeded=False,
    ),
    "oracle": MethodEntry(
        OracleConfig,
        lambda config: Alone(make_head(config.head)),
        "logistic regression on the target's own labels: an upper bound",
        "a bound",
        seeded=False,
        reads_target_labels=True,
    ),
}
"""By the name that a configuration gives."""


def make_method(config: AdaptationConfig) -> Method:
    """The method that a configuration names."""
    return METHODS[config.name].make(config)


def named(name: str) -> AdaptationConfig:
    """The configuration of a method with its defaults.

    Raises:
        ConfigError: there is no such method.
    """
    if name not in METHODS:
        raise ConfigError(
            f"There is no method {name!r}.{did_you_mean(name, METHODS)} Known methods: "
            f"{', '.join(METHODS)}."
        )
    config: Any = METHODS[name].config()
    made: AdaptationConfig = config
    return made
