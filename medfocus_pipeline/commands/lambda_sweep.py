"""``medfocus probe --lambda-sweep``: what cross-validation says of each lambda of the fusion."""

from pathlib import Path

from medfocus_pipeline.commands.output import bar, say, say_columns
from medfocus_pipeline.commands.scan import open_dataset
from medfocus_pipeline.config import FusionConfig, ProbeConfig
from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.evaluation.sweep import training_set
from medfocus_pipeline.files import disk_errors, write_text
from medfocus_pipeline.heads.fusion import FusionHead
from medfocus_pipeline.heads.fusion_lambda import LambdaCurve
from medfocus_pipeline.project.dataset import split_of
from medfocus_pipeline.project.plans import features, plan
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import check_embedded, locate_stores
from medfocus_pipeline.report.formats import csv_text
from medfocus_pipeline.report.score_table import heading

LAMBDAS = tuple(step / 10 for step in range(11))


def run(context: Context, config: ProbeConfig) -> None:
    """Print a curve for each fusion row and budget, of the first seed; no test image is read.

    Raises:
        ConfigError: no row is of the head fusion.
        StoreError: some images have no embedding.
    """
    dataset = open_dataset(context, images_needed=False)
    stores = locate_stores(context, dataset, context.embed.configs(auto=dataset.card.roi))
    split = split_of(dataset, config)
    plans = [
        (one, FusionHead(one.row.head))
        for one in plan(context, dataset, stores, split, config)
        if isinstance(one.row.head, FusionConfig)
    ]
    if not plans:
        raise ConfigError("No row is of the head fusion: add one, --row fusion:segmented.")
    curves: dict[tuple[str, str], LambdaCurve] = {}
    with bar("lambda", sum(run.seed == 0 for one, _ in plans for run in one.runs)) as advance:
        for one, head in plans:
            check_embedded(one.context, one.places)
            table = features(dataset, split, one)
            for fit in (fit for fit in one.runs if fit.seed == 0):
                try:
                    curve = head.lambda_curve(training_set(table, fit), LAMBDAS)
                except DataError as error:
                    say(f"{one.label}, {heading(fit.budget)}: {error}")
                else:
                    curves[one.label, heading(fit.budget)] = curve
                advance(1)
    _show(curves)
    _write(curves, context.folder / "results" / "lambda.csv")


def _show(curves: dict[tuple[str, str], LambdaCurve]) -> None:
    say("L = lambda L_c + (1 - lambda) L_e, by cross-validation inside the training subset, seed 0")
    rows = []
    for (label, budget), curve in curves.items():
        accuracies = (f"{100 * accuracy:.1f}" for accuracy in curve.accuracies)
        rows.append((label, budget, *accuracies, f"{curve.best:g}"))
    say_columns(("held-out accuracy, %", "of", *map(str, LAMBDAS), "chosen"), rows)


def _write(curves: dict[tuple[str, str], LambdaCurve], path: Path) -> None:
    rows = [
        [label, budget, *(f"{value:.6g}" for value in point)]
        for (label, budget), curve in curves.items()
        for point in zip(curve.lambdas, curve.log_losses, curve.accuracies, strict=True)
    ]
    with disk_errors(path.parent):
        write_text(path, csv_text(["row", "budget", "lambda", "log_loss", "accuracy"], rows))
    say(f"written: {path}")
