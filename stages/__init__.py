"""The pipeline's map: one file a stage, which can be run, ``python -m stages.masks brain``.

scan -> masks -> embed -> probe -> report
"""
