"""The gate: what says whether a picture is a medical image at all; the table of its methods."""

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

from medfocus_pipeline.config import (
    DeepSvddConfig,
    Frozen,
    MahalanobisConfig,
    NeighboursConfig,
    OcNnConfig,
    OneClassConfig,
    OneClassSvmConfig,
)
from medfocus_pipeline.errors import ConfigError, did_you_mean
from medfocus_pipeline.gate.deep_svdd import DeepSvddMethod
from medfocus_pipeline.gate.mahalanobis import MahalanobisMethod
from medfocus_pipeline.gate.neighbours import NeighboursMethod
from medfocus_pipeline.gate.oc_nn import OcNnMethod
from medfocus_pipeline.gate.one_class_svm import OneClassSvmMethod
from medfocus_pipeline.gate.protocol import OneClass

__all__ = ["ONE_CLASS", "Entry", "default_config", "make_one_class", "names"]


class Entry(NamedTuple):
    """One method that learns from medical images alone.

    Attributes:
        make: its configuration -> the method.
        what: people's name of it.
        source: the paper that it is from.
    """

    make: Callable[[Any], OneClass]
    what: str
    source: str


ONE_CLASS: dict[type[Frozen], Entry] = {
    OneClassSvmConfig: Entry(OneClassSvmMethod, "one-class SVM", "Schoelkopf et al. 2001"),
    DeepSvddConfig: Entry(DeepSvddMethod, "Deep SVDD", "Ruff et al. 2018"),
    OcNnConfig: Entry(OcNnMethod, "OC-NN", "Chalapathy et al. 2018"),
    MahalanobisConfig: Entry(MahalanobisMethod, "Mahalanobis", "Ledoit and Wolf 2004"),
    NeighboursConfig: Entry(NeighboursMethod, "nearest neighbours", "Sun et al. 2022"),
}
"""By the type of their configuration."""


def make_one_class(config: OneClassConfig) -> OneClass:
    """The method that a configuration names."""
    return ONE_CLASS[type(config)].make(config)


def names() -> dict[str, type[Frozen]]:
    """Configurations by the name that they have."""
    return {get_args(kind.model_fields["name"].annotation)[0]: kind for kind in ONE_CLASS}


def default_config(name: str) -> OneClassConfig:
    """The configuration of a name, as it is without settings.

    Raises:
        ConfigError: there is no such method; the known ones are listed.
    """
    known = names()
    if name not in known:
        raise ConfigError(
            f"There is no one-class method {name!r}.{did_you_mean(name, known)} Known methods: "
            f"{', '.join(known)}."
        )
    config: Any = known[name]()
    return config  # type: ignore[no-any-return]
