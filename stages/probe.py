"""Stage two: what can be learned from a few labels.

Reads: the embeddings, the labels and groups of the manifest; no image, no model.
Writes: ``<cache>/<dataset>/results/`` (results, predictions, subsets) and ``splits/``.
Key: of each run: head and settings, features, subset, seed.
Runs again: for runs without a result, so that more seeds or another row cost only themselves.
"""

from typing import TYPE_CHECKING

from medfocus_pipeline.__main__ import main

if TYPE_CHECKING:
    from medfocus_pipeline import Project


def stage(project: "Project") -> None:
    """Fit the heads that have no result yet, over data fractions and seeds."""
    project.probe()


if __name__ == "__main__":
    main("probe")
