"""What a report says: plain values, gathered on one side, shown on another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.evaluation.diagnostics import Recall, Reliability
from medfocus_pipeline.report.score_table import ResultsTable
from medfocus_pipeline.types import FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An encoded picture, as it goes into the page.

    Attributes:
        content: of a file.
        media_type: ``image/webp`` or ``image/png``.
        width, height: in pixels.
        alt: what it shows, for who cannot see it; untrusted text.
    """

    content: bytes
    media_type: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One image of the data set and what was done with it.

    Attributes:
        name: path in the data set; untrusted text, as all text here is.
        label: name of the true class.
        pictures: heading -> picture, e.g. "region", "candidates", "segmented".
        facts: name -> value, e.g. "ROI area" -> "12 %", "IoU" -> ".71".
        probabilities: class name -> probability in [0, 1]; empty if no head was asked.
        predicted: name of the class with the highest one; empty as above.
        folded: heading -> picture, which are shown when they are asked for.
    """

    name: str
    label: str
    pictures: Mapping[str, Picture]
    facts: Mapping[str, str] = field(default_factory=dict)
    probabilities: Mapping[str, float] = field(default_factory=dict)
    predicted: str = ""
    folded: Mapping[str, Picture] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Tiles under one heading.

    Attributes:
        note: how they were chosen, and of how many.
    """

    title: str
    note: str
    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True, eq=False)
class RowDetail:
    """How one row errs at its largest budget.

    Attributes:
        label: of the table's line.
        budget: ``100 %``.
        confusion: ``(K, K) int64``, row the true class, column the predicted one, summed over
            runs.
        recalls: of each class.
        bins: of the reliability diagram.
        auroc, calibration_error: mean over runs, in [0, 1]; nan where undefined.
    """

    label: str
    budget: str
    confusion: IntArray
    recalls: Sequence[Recall]
    bins: Sequence[Reliability]
    auroc: float
    calibration_error: float

    @property
    def shares(self) -> NDArray[np.float64]:
        """The confusion matrix as shares of each true class, in [0, 1]; 0 in an empty row."""
        total = np.maximum(self.confusion.sum(axis=1, keepdims=True), 1)
        shares: NDArray[np.float64] = self.confusion / total
        return shares


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingMap:
    """Images as points.

    Attributes:
        title: which features.
        note: what was sampled, and how the points were laid out.
        layouts: name ("PCA", "t-SNE") -> ``(n, 2) float32``, any unit.
        labels: ``(n,) int64``, class index.
        names: of the n images.
        sides: ``train`` or ``test`` of each.
        thumbnails: of each; shown on hover and on focus.
    """

    title: str
    note: str
    layouts: Mapping[str, FloatArray]
    labels: IntArray
    names: Sequence[str]
    sides: Sequence[str]
    thumbnails: Sequence[Picture]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two files that show the same, or nearly.

    Attributes:
        kind: ``equal files``, ``equal pixels``, ``perceptual hash`` or ``embedding``.
        first, second: each has one picture.
        detail: side and class of both, and how near they are.
    """

    kind: str
    first: Tile
    second: Tile
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Duplicates:
    """What the audit found across the split.

    Attributes:
        note: how many there are, and how many are shown; or that no audit was run, and how.
        pairs: test images and what is like them in training.
    """

    note: str
    pairs: Sequence[Pair] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """What a reader needs before anything else, in plain words.

    Attributes:
        sentences: what ran, on what, the best row, the accuracy without leaks.
        warnings: of the audit and of what did not run.
        figures: heading -> value, a few great numbers: "best accuracy" -> "88.1 ± 0.7 %".
    """

    sentences: Sequence[str]
    warnings: Sequence[str] = ()
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Section:
    """A table by itself; the first cell of a row names it."""

    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A figure of a chapter.

    Attributes:
        name: of its file, without suffix.
        caption: what it shows.
        draw: a new figure each time.
    """

    name: str
    caption: str
    draw: "Callable[[], Figure]"


@dataclass(frozen=True, slots=True, eq=False)
class Chapter:
    """What a command beside the usual stages found.

    Attributes:
        name: of its place in the page: letters and hyphens.
        notes: a paragraph each.
    """

    name: str
    title: str
    notes: Sequence[str]
    drawings: Sequence[Drawing]
    tables: Sequence[Section]
    galleries: Sequence[Gallery] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Everything that the page shows, in its order.

    Attributes:
        subtitle: profile, encoder, date.
        classes: names of the K classes.
        summary: above the fold.
        table: ours and the paper's.
        cells: a few rows in detail, the best first.
        chapters: fine-tuning, the gate.
        galleries: masks, class by class, then the worst ones.
        mistakes: the most confident wrong predictions.
        provenance: heading -> name -> value: stores and keys, models, packages, commands,
            licence and citation.
    """

    title: str
    subtitle: str
    classes: Sequence[str]
    summary: Summary
    table: ResultsTable
    cells: Sequence[RowDetail]
    galleries: Sequence[Gallery]
    mistakes: Gallery
    maps: Sequence[EmbeddingMap]
    duplicates: Duplicates
    provenance: Mapping[str, Mapping[str, str]]
    chapters: Sequence[Chapter] = ()
