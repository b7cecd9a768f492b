"""Beside the stages: a network trained on each subset, not only a head on its features.

Reads: the images, of a focus mode that looks at a region their masks; labels and groups.
Writes: ``<cache>/<dataset>/pictures/<encoder>-<focus>-<key>/``, decoded and resized once;
``<cache>/<dataset>/tuning/``, checkpoints and trained weights; its runs in ``results/``.
Key: of each run: what is trained and how, the encoder's files, the pictures, subset, seed.
Runs again: for runs without a result; a killed one goes on from its last checkpoint.
"""

from typing import TYPE_CHECKING

from medfocus_pipeline.__main__ import main

if TYPE_CHECKING:
    from medfocus_pipeline.config import Runtime
    from medfocus_pipeline.project.finetuning import Finetuning


def stage(tuning: "Finetuning", runtime: "Runtime") -> None:
    """Decode what is missing, then train the runs that have no result yet."""
    tuning.pictures.fill(runtime)
    tuning.fit(runtime)


if __name__ == "__main__":
    main("finetune")
