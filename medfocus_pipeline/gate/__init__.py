"""The gate: what says whether a picture is a medical image at all; the table of its methods."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from medfocus_pipeline.config import OneClassConfig, method_config
from medfocus_pipeline.gate.deep_svdd import DeepSvddMethod
from medfocus_pipeline.gate.mahalanobis import MahalanobisMethod
from medfocus_pipeline.gate.neighbours import NeighboursMethod
from medfocus_pipeline.gate.oc_nn import OcNnMethod
from medfocus_pipeline.gate.one_class_svm import OneClassSvmMethod
from medfocus_pipeline.gate.protocol import OneClass

__all__ = ["ONE_CLASS", "Entry", "default_config", "make_one_class"]


class Entry(NamedTuple):
    """One method that learns from medical images alone.

    Attributes:
        make: its configuration -> the method.
        what: people's name of it.
    """

    make: Callable[[Any], OneClass]
    what: str


ONE_CLASS: Mapping[str, Entry] = {
    "one_class_svm": Entry(OneClassSvmMethod, "one-class SVM"),
    "deep_svdd": Entry(DeepSvddMethod, "Deep SVDD"),
    "oc_nn": Entry(OcNnMethod, "OC-NN"),
    "mahalanobis": Entry(MahalanobisMethod, "Mahalanobis"),
    "neighbours": Entry(NeighboursMethod, "nearest neighbours"),
}
"""By the name that a configuration gives."""


def make_one_class(config: OneClassConfig) -> OneClass:
    """The method that a configuration names."""
    return ONE_CLASS[config.name].make(config)


def default_config(name: str) -> OneClassConfig:
    """The configuration of a name, as it is without settings.

    Raises:
        ConfigError: there is no such method; the known ones are listed.
    """
    union: TypeAdapter[OneClassConfig] = TypeAdapter(OneClassConfig)
    return method_config(union, name, ONE_CLASS, what="one-class method")
