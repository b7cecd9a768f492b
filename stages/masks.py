"""Stage one, first half: where something might be.

Reads: the images of the manifest.
Writes: ``<cache>/<dataset>/masks/<segmenter>-<key>/``, candidate masks (Zarr) and their index.
Key: the segmenter, its settings and the SHA-256 of its weights; K, and the side of the frame.
Runs again: for new and changed images; whole with another key. ROI rules, encoders, splits and
seeds change nothing here.
"""

from typing import TYPE_CHECKING

from medfocus_pipeline.__main__ import main

if TYPE_CHECKING:
    from medfocus_pipeline import Project


def stage(project: "Project") -> None:
    """Segment the images that have no masks yet."""
    project.masks.fill()


if __name__ == "__main__":
    main("masks")
