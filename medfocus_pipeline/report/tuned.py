"""Fine-tuned runs: how they were trained, what was searched, and their learning curves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.report.colours import COLOURS, series
from medfocus_pipeline.report.content import Section
from medfocus_pipeline.report.drawing import MUTED, new_figure, shown, styled
from medfocus_pipeline.report.score_table import heading
from medfocus_pipeline.types import JSON

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SEARCHED = (
    *("learning_rate", "weight_decay", "label_smoothing"),
    *("trained", "balance", "augmentation"),
)


@dataclass(frozen=True, slots=True, eq=False)
class TunedCell:
    """Runs of one line on one budget, a seed each.

    Attributes:
        chosen: of each what its results have: `epochs` that were chosen, `search`, `curves`, ...
            These are ``train_loss``, ``validation_loss``, ``train_accuracy`` and
            ``validation_accuracy``: an entry an epoch, None where nothing is held out.
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


def draw_learning(cells: Sequence[TunedCell]) -> "Figure":
    """Loss and accuracy by epoch, a panel each; a colour a cell, a thin line a run.

    Training is dashed, validation is not, and a mark stands at the epoch that was chosen.
    """
    several = len({cell.label for cell in cells}) > 1
    with styled():
        figure = new_figure((9.0, 3.6))
        loss, accuracy = figure.subplots(1, 2)
        looks = []
        for number, cell in enumerate(cells):
            label = f"{cell.label}, {heading(cell.budget)}" if several else heading(cell.budget)
            colour = COLOURS[series(number)[0]].light
            looks.append((label, colour, "-"))
            for one in cell.chosen:
                _draw(loss, one, "loss", colour, 1)
                _draw(accuracy, one, "accuracy", colour, 100)
        loss.set_ylabel("loss")
        accuracy.set_ylabel("accuracy, %")
        for axes in (loss, accuracy):
            axes.set_xlabel("epoch")
            axes.grid(axis="y")
            axes.locator_params(axis="x", integer=True)
        for name, colour, style in (*looks, ("validation", MUTED, "-"), ("training", MUTED, "--")):
            loss.plot([], [], color=colour, linestyle=style, label=shown(name))
        figure.legend(loc="outside right upper")
    return figure


def _draw(axes: "Axes", chosen: JSON, what: str, colour: str, factor: int) -> None:
    for side, style in (("train", "--"), ("validation", "-")):
        values = chosen["curves"][f"{side}_{what}"]
        known = [(n, factor * value) for n, value in enumerate(values, 1) if value is not None]
        x, y = [n for n, _ in known], [value for _, value in known]
        axes.plot(x, y, color=colour, linestyle=style, linewidth=1, alpha=0.7)
        ends = [(n, value) for n, value in known if n == chosen["epochs"] and side == "validation"]
        axes.plot([n for n, _ in ends], [value for _, value in ends], "o", color=colour, ms=4)


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "-" if value is None else str(value)
