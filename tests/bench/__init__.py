"""``make bench``: how fast the stages are, as ratios to the bare models."""

import json
import platform
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from rich.table import Table

from medfocus_pipeline.commands.output import err, out, say
from medfocus_pipeline.devices import cores
from medfocus_pipeline.files import replacing
from medfocus_pipeline.types import JSON
from tests.bench import gating, logistic, sam2, stage_one, sweep, tuning, whole


def run(output: Path, *, quick: bool) -> None:
    """Measure everything, print a table and write ``bench.json``.

    Args:
        quick: fewer images and repeats, to see that it works.
    """
    repeats = 1 if quick else 3
    results: JSON = {"machine": _machine()}
    with tempfile.TemporaryDirectory() as folder:
        err.print("embeddings: bare model and stage in turn")
        results["embeddings"] = stage_one.embeddings(
            Path(folder), images=32 if quick else 126, repeats=repeats
        )
        err.print("embeddings: every feature part and `pooled` alone in turn")
        results["feature_parts"] = stage_one.parts(
            Path(folder), images=16 if quick else 63, repeats=repeats
        )
        err.print("masks: bare segmenter and stage in turn")
        results["masks_threshold"] = stage_one.masks_threshold(
            Path(folder), images=32 if quick else 96, repeats=repeats
        )
        results["masks_sam2"] = stage_one.masks_sam2(
            Path(folder), images=2 if quick else 4, repeats=repeats
        )
        err.print("fine-tuning: bare passes and run in turn")
        results["finetune"] = tuning.measure(
            Path(folder), images=25 if quick else 50, epochs=1 if quick else 5, repeats=repeats
        )
        err.print("the gate: an image alone, a folder, and where the embedding is made anyway")
        results["gate"] = gating.measure(Path(folder), images=24 if quick else 120, repeats=repeats)
        err.print("whole commands, as a user runs them")
        results["commands"] = whole.commands(Path(folder), images=110 if quick else 1100)
    err.print("SAM2 against the package's own mask generator")
    results["sam2_generator"] = sam2.compare(
        points_per_side=4 if quick else 16, images=1, repeats=1
    )
    err.print("the sweep of stage two")
    results["sweep"] = sweep.measure(images=110 if quick else 1100, seeds=2 if quick else 10)
    err.print("the batched logistic regression and a loop over scikit-learn's")
    results["logistic"] = {
        f"{threads} thread{'s' if threads > 1 else ''}": logistic.measure(
            images=280 if quick else 5600,
            seeds=2 if quick else 10,
            values=20,
            threads=threads,
        )
        for threads in (1, 2)
    }
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    show(results)
    say(f"written to {output}")


def _machine() -> JSON:
    packages = {name: version(name) for name in ("torch", "sam2", "numpy", "zarr", "scikit-learn")}
    return {"cores": cores(), "machine": platform.machine(), "packages": packages}


def show(results: JSON) -> None:
    """Print figures by what was measured."""
    table = Table("what", "figure", "value", box=None)
    for what, figures in results.items():
        for figure, value in _flat(figures):
            table.add_row(what, figure.replace("_", " "), f"{value:,.4g}")
    out.print(table)


def _flat(figures: JSON, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{name}", value
