"""Beside the stages: is it a medical image at all?

Reads: a data set of two classes, medical and not, its manifest, embeddings of whole images and of
the gate's phrases (which are computed as far as they are missing).
Writes: ``<cache>/<dataset>/gate/``: each method's scores (Parquet), the tables (Markdown, CSV), the
curves, and a page with the errors as pictures.
Key: of the embeddings, as in `embed`; the table itself has none, and is fitted anew in seconds.
Runs again: every time.
"""

from medfocus_pipeline.__main__ import main

if __name__ == "__main__":
    main("gate")
