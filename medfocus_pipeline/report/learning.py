"""Learning curves of fine-tuned runs: loss and accuracy, training and validation, by epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medfocus_pipeline.report.colours import COLOURS, series
from medfocus_pipeline.report.drawing import MUTED, Size, new_figure, shown, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE: Size = (9.0, 3.6)


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One run.

    Attributes:
        label: what runs of one colour share, such as the training images.
        curves: ``train_loss``, ``validation_loss``, ``train_accuracy``, ``validation_accuracy``;
            an entry an epoch, None where nothing is held out.
        epochs: that were chosen.
    """

    label: str
    curves: Mapping[str, Sequence[float | None]]
    epochs: int


def draw_learning(lessons: Sequence[Lesson], *, size: Size = _SIZE) -> "Figure":
    """Two panels, loss and accuracy; a colour a label, a thin line a run.

    Training is dashed, validation is not, and a mark stands at the epoch that was chosen.
    """
    labels = list(dict.fromkeys(one.label for one in lessons))
    with styled():
        figure = new_figure(size)
        loss, accuracy = figure.subplots(1, 2)
        for lesson in lessons:
            colour = COLOURS[series(labels.index(lesson.label))[0]].light
            _draw(loss, lesson, "loss", colour, 1)
            _draw(accuracy, lesson, "accuracy", colour, 100)
        loss.set_ylabel("loss")
        accuracy.set_ylabel("accuracy, %")
        for axes in (loss, accuracy):
            axes.set_xlabel("epoch")
            axes.grid(axis="y")
            axes.locator_params(axis="x", integer=True)
        for name, colour, style in (
            *((label, COLOURS[series(n)[0]].light, "-") for n, label in enumerate(labels)),
            ("validation", MUTED, "-"),
            ("training", MUTED, "--"),
        ):
            loss.plot([], [], color=colour, linestyle=style, label=shown(name))
        figure.legend(loc="outside right upper")
    return figure


def _draw(axes: "Axes", lesson: Lesson, what: str, colour: str, factor: int) -> None:
    for side, style in (("train", "--"), ("validation", "-")):
        values = lesson.curves[f"{side}_{what}"]
        known = [(n, factor * value) for n, value in enumerate(values, 1) if value is not None]
        axes.plot(
            [n for n, _ in known],
            [value for _, value in known],
            color=colour,
            linestyle=style,
            linewidth=1,
            alpha=0.7,
        )
        chosen = [(n, value) for n, value in known if n == lesson.epochs and side == "validation"]
        axes.plot([n for n, _ in chosen], [value for _, value in chosen], "o", color=colour, ms=4)
