"""One fitted run as a folder, and images classified with it, outside of any cache."""

from medfocus_pipeline.classifier.classifier import Answer, Classifier, Explanation

__all__ = ["Answer", "Classifier", "Explanation"]
