"""One fitted run as a folder, and images classified with it, outside of any cache."""

from medfocus_pipeline.classifier.answer import Answer, Explanation
from medfocus_pipeline.classifier.classifier import Classifier

__all__ = ["Answer", "Classifier", "Explanation"]
