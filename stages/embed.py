"""Stage one, second half: what a network sees there.

Reads: the images, their masks, and the prompts of the card.
Writes: ``<cache>/<dataset>/embeddings/<encoder>-<focus>-…-<key>/``, a store a focus mode, and
``<cache>/<dataset>/texts/``, the class prompts.
Key: the encoder, its settings and the SHA-256 of its weights; focus mode, views and fit; where the
region counts, the ROI rule and the key of the masks.
Runs again: for new and changed images; whole with another key. Splits, heads and seeds change
nothing here, and a new prompt costs that prompt.
"""

from typing import TYPE_CHECKING

from medfocus_pipeline.__main__ import main

if TYPE_CHECKING:
    from medfocus_pipeline import Project


def stage(project: "Project") -> None:
    """Embed the images and prompts that have no embeddings yet."""
    project.embeddings().fill()


if __name__ == "__main__":
    main("embed")
