"""``medfocus results``: what was measured, by any metric."""

import json
from collections.abc import Sequence

import numpy as np

from medfocus_pipeline.commands.output import say, say_columns, say_json
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.evaluation.intervals import Scores
from medfocus_pipeline.evaluation.scores import ALL, read_scored
from medfocus_pipeline.evaluation.statistics import scores_by_budget
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.report.drawing import printable
from medfocus_pipeline.report.score_table import heading
from medfocus_pipeline.types import JSON

_ROW = ("encoder", "segmenter", "roi", "head", "focus")


def run(context: Context, metrics: Sequence[str], *, as_json: bool) -> None:
    """Print mean and standard deviation over the seeds, of every row and budget.

    Args:
        metrics: names of scores; without any, all there are.
        as_json: print every run with its keys, choices and scores instead.

    Raises:
        ConfigError: there is no such metric.
        StoreError: there is no result, or a file is damaged.
    """
    names = tuple(metrics) or ALL
    runs = read_scored(context.folder / "results", names).to_pylist()
    if not runs:
        raise StoreError(
            f"{context.dataset} has no result yet. Run: medfocus probe {context.dataset}"
        )
    if as_json:
        say_json([{**row, "chosen": json.loads(row["chosen"])} for row in runs])
        return
    lines = []
    for row, own in _rows(runs).items():
        scores = [scores_by_budget(own, column=name) for name in names]
        for budget in scores[0]:
            cells = [*row, heading(budget), *(_text(one[budget]) for one in scores)]
            lines.append([printable(cell) for cell in cells])
    say_columns([*_ROW, "training images", *names], lines)
    say("mean ± standard deviation over seeds; accuracy and the others in percent")


def _rows(runs: Sequence[JSON]) -> dict[tuple[str, ...], list[JSON]]:
    found: dict[tuple[str, ...], list[JSON]] = {}
    for run in runs:
        found.setdefault(tuple(run[name] for name in _ROW), []).append(run)
    return found


def _text(scores: Scores) -> str:
    if np.isnan(scores).any():
        return "-"
    spread = scores.std(ddof=1) if len(scores) > 1 else 0.0
    return f"{100 * scores.mean():.1f} ± {100 * spread:.1f}"
