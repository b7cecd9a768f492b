"""Fine-tuned runs in tables: how they were trained, what was searched, which classes they find."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.evaluation.diagnostics import Recall
from medfocus_pipeline.report.content import Section
from medfocus_pipeline.report.learning import Lesson
from medfocus_pipeline.report.table import heading
from medfocus_pipeline.types import JSON

_SEARCHED = (
    *("learning_rate", "weight_decay", "label_smoothing"),
    *("trained", "balance", "augmentation"),
)


@dataclass(frozen=True, slots=True, eq=False)
class TunedCell:
    """Runs of one line on one budget, a seed each.

    Attributes:
        label: of the line.
        seeds: of the runs.
        chosen: of each what its results have: epochs, curves, search ...
    """

    label: str
    budget: Budget
    seeds: Sequence[int]
    chosen: Sequence[JSON]


def training_section(cells: Sequence[TunedCell]) -> Section:
    """How far each was trained, and how well it tells its own training images."""
    header = ["fine-tuned", "on", "of its own images right, %", "epochs", "held-out loss"]
    rows = []
    for cell in cells:
        right = 100 * sum(one["train_accuracy"] for one in cell.chosen) / len(cell.chosen)
        losses = [one["validation_loss"] for one in cell.chosen]
        rows.append(
            [
                cell.label,
                heading(cell.budget),
                f"{right:.1f}",
                ", ".join(str(one["epochs"]) for one in cell.chosen),
                ", ".join("-" if loss is None else f"{loss:.3f}" for loss in losses),
            ]
        )
    return Section("Training, by seed", header, rows)


def recall_section(
    recalls: Mapping[tuple[str, Budget], Sequence[Recall]], classes: Sequence[str]
) -> Section:
    """Recall of the test images of each class.

    Args:
        recalls: label and budget -> that of each class.
        classes: their names.
    """
    rows = [
        [label, heading(budget), name, f"{100 * one.mean:.1f} ± {100 * one.spread:.1f}"]
        for (label, budget), own in recalls.items()
        for name, one in zip(classes, own, strict=True)
    ]
    return Section("Recall by class, %", ["of", "on", "class", "recall, %"], rows)


def search_sections(cells: Sequence[TunedCell]) -> Iterator[Section]:
    """The trials of every search, then which parameters mattered to each."""
    weights = []
    for title, search in _searches(cells):
        columns = ("trial", "state", "validation_loss", "epochs", *_SEARCHED)
        rows = [[_text(row[name]) for name in columns] for row in search["trials"]]
        names = [name.replace("_", " ") for name in columns]
        yield Section(f"Trials: {title}; the best is {search['best']}", names, rows)
        shares = search["importance"]
        known = [f"{shares[name]:.2f}" if name in shares else "-" for name in _SEARCHED]
        weights.append([title, *known, str(search["diverged"])])
    if weights:
        names = [name.replace("_", " ") for name in _SEARCHED]
        header = ["importance (PED-ANOVA)", *names, "trials that diverged"]
        yield Section("Importance of each hyper-parameter", header, weights)


def _searches(cells: Sequence[TunedCell]) -> Iterator[tuple[str, JSON]]:
    """Each search once: seeds share that of a subset that they share."""
    told: list[JSON] = []
    for cell in cells:
        for seed, one in zip(cell.seeds, cell.chosen, strict=True):
            search = one.get("search")
            if search and search not in told:
                told.append(search)
                yield f"{cell.label}, {heading(cell.budget)}, seed {seed}", search


def lessons(cells: Sequence[TunedCell]) -> list[Lesson]:
    """The learning curves of all runs, those of one cell in one colour."""
    several = len({cell.label for cell in cells}) > 1
    return [
        Lesson(
            f"{cell.label}, {heading(cell.budget)}" if several else heading(cell.budget),
            one["curves"],
            one["epochs"],
        )
        for cell in cells
        for one in cell.chosen
    ]


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "-" if value is None else str(value)
