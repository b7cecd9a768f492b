"""Beside the stages: from hospital to hospital.

Reads: a study (``data/<study>.yaml``), and of each of its domains the manifest and embeddings,
which are computed as far as they are missing.
Writes: ``<cache>/<study>/results/`` (adaptation, predictions, subsets), ``audit.parquet``, and
``report/``: the matrix as a page, tables and a picture.
Key: of each run: method and settings, features, source's images and labels, target's images without
labels, its test images, seed.
Runs again: for runs without a result; a domain more costs its own pairs.
"""

from typing import TYPE_CHECKING

from medfocus_pipeline.__main__ import main

if TYPE_CHECKING:
    from medfocus_pipeline.config.adaptation import AdaptConfig
    from medfocus_pipeline.project.study import Study


def stage(study: "Study", config: "AdaptConfig") -> None:
    """Embed what a domain lacks, then fit the methods that have no result yet."""
    study.fill(config)
    study.adapt(config)


if __name__ == "__main__":
    main("adapt")
