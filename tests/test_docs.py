"""The README, the documentation site and the notebook."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))),
]


def test_the_readme_is_short_outside_of_what_is_folded() -> None:
    read_at_once = re.sub(r"<details>.*?</details>", "", README, flags=re.DOTALL)
    assert len(read_at_once.splitlines()) <= 250


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        path = target.partition("#")[0]
        if path and "://" not in target:
            assert ((ROOT / page).parent / path).exists(), target


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    build = ("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path))
    done = subprocess.run([sys.executable, *build], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "reference/index.html").read_text(encoding="utf-8")
    for name in ("Project.open", "Masks.fill", "Embeddings.fill", "Classifier.load"):
        assert f'.{name}"' in reference, f"{name} is not described"


def test_the_notebook_runs_and_shows_no_place_of_this_machine(tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells), "it is stored without outputs"
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = str([cell.outputs for cell in cells])
    assert "image/png" in shown
    assert str(tmp_path) not in shown
    assert str(ROOT) not in shown
