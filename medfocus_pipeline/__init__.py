"""MedFocus: few-shot medical image classification on segmented regions."""

__version__ = "0.1.0"
