"""After the stages: one page to look at.

Reads: all that the stages wrote, and the images that are shown.
Writes: ``<cache>/<dataset>/report/``: the page, tables (Markdown, CSV, LaTeX) and figures.
Key: none; it is written anew.
Runs again: every time.
"""

from medfocus_pipeline.__main__ import main

if __name__ == "__main__":
    main("report")
