"""MedFocus: few-shot medical image classification on segmented regions.

>>> from medfocus_pipeline import Classifier, Project
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medfocus_pipeline.classifier import Classifier
    from medfocus_pipeline.project.project import Project

__all__ = ["Classifier", "Project", "__version__"]

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """`Classifier` and `Project` when they are asked for: the command line needs neither."""
    if name == "Classifier":
        from medfocus_pipeline.classifier import Classifier

        return Classifier
    if name == "Project":
        from medfocus_pipeline.project.project import Project

        return Project
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
