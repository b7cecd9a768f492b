"""Before the stages: which images there are.

Reads: the folder or CSV named with DATA, and the data set's card.
Writes: ``<cache>/<dataset>/manifest.parquet``, a row a file: class, split, patient, SHA-256, why
it is left out.
Key: none; the manifest is brought up to date.
Runs again: every time, at the start of each stage; only files whose size or time changed are
opened.
"""

from typing import TYPE_CHECKING

from medfocus_pipeline.__main__ import main

if TYPE_CHECKING:
    from medfocus_pipeline import Project


def stage(project: "Project") -> None:
    """Scan; opening a project does it."""
    project.rescan()


if __name__ == "__main__":
    main("scan")
