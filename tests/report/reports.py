"""A small made-up report, and one whose names attack the page."""

import io
from collections.abc import Sequence
from functools import partial

import numpy as np
import PIL.Image

from medfocus_pipeline.evaluation.diagnostics import Recall, Reliability
from medfocus_pipeline.report.content import (
    Chapter,
    Drawing,
    Duplicates,
    EmbeddingMap,
    Gallery,
    Pair,
    Picture,
    Report,
    RowDetail,
    Section,
    Summary,
    Tile,
)
from medfocus_pipeline.report.score_table import ResultsTable, TableCell, TableRow
from medfocus_pipeline.report.tuned import TunedCell, draw_learning
from medfocus_pipeline.seeding import generator

BUDGETS = [("fraction", 5.0), ("fraction", 20.0), ("fraction", 100.0)]
CLASSES = ("glioma", "meningioma", "no tumour", "pituitary")
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(2)>'",
    "$\\frac{1}{2}$",
    "{{7*7}}</script><script>alert(3)</script>",
)
NAN = float("nan")


def picture(number: int, alt: str, *, size: int = 96) -> Picture:
    """A grey disc on black, not twice the same."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    noise = generator("report picture", number)
    centre = noise.uniform(-0.15, 0.15, 2)
    disc = np.hypot(x - centre[0], y - centre[1]) < noise.uniform(0.15, 0.3)
    grey = 60 + 40 * np.hypot(x, y) + 90 * disc + noise.normal(0, 6, x.shape)
    file = io.BytesIO()
    PIL.Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(file, "WEBP", quality=60)
    return Picture(file.getvalue(), "image/webp", size, size, alt)


def entry(mean: float, *, mark: str = "", clean: float = NAN, runs: int = 10) -> TableCell:
    return TableCell(mean, 0.012, mean - 0.02, mean + 0.02, clean, 0.015, runs, mark=mark)


def table() -> ResultsTable:
    """Ours, the paper's, rows that leak, a row that cannot run."""

    def measured(start: float, *, mark: str = "") -> dict[tuple[str, float], TableCell]:
        steps = (0.0, 0.11, 0.19)
        return {
            budget: entry(start + step, mark=mark if step else "", clean=start + step - 0.03)
            for budget, step in zip(BUDGETS, steps, strict=True)
        }

    paper = {5.0: 68.57, 20.0: 76.88, 100.0: 85.1}
    rows = [
        TableRow("ViT-B/16, linear", group="the paper's rows", note="needs weights", method="ViT",
                 head="linear", focus="original", paper={5.0: 60.1, 20.0: 66.2, 100.0: 77.25}),
        TableRow("linear on original", measured(0.61), group="the paper's rows", area=0.71,
                 head="linear", focus="original", paper=paper, method="CLIP", clean=(310, 394)),
        TableRow("fusion on segmented (MedFocusCLIP)", measured(0.66, mark=" ▲"),
                 group="the paper's rows", area=0.76, head="fusion", focus="segmented",
                 paper={5.0: 77.9, 20.0: 83.5, 100.0: 92.0}, method="MedFocusCLIP",
                 clean=(310, 394)),
        TableRow("fusion on original+segmented", measured(0.69, mark=" ▲"),
                 group="other methods", area=0.79, head="fusion", focus="original+segmented",
                 clean=(310, 394)),
        TableRow("MLP on original", {BUDGETS[2]: entry(0.64)}, group="other methods",
                 head="mlp", focus="original"),
        TableRow("CoCoOp", group="other methods", head="cocoop", focus="original",
                 note="needs a dual encoder"),
    ]  # fmt: skip
    notes = [
        "Accuracy in percent: mean ± standard deviation over seeds.",
        "▲ better, ▼ worse than linear on original, below .05 after Holm's correction.",
    ]
    return ResultsTable("Brain Tumor MRI: accuracy on 394 test images", BUDGETS, rows, notes)


def cell(label: str, classes: Sequence[str]) -> RowDetail:
    count = len(classes)
    noise = generator("report cell", count)
    confusion = noise.integers(0, 60, (count, count)) + np.diag([700] * count)
    recalls = [Recall(row[i] / row.sum(), 0.02, 100) for i, row in enumerate(confusion)]
    recalls[-1] = Recall(NAN, NAN, 0)
    bins = [
        Reliability(m / 10, (m + 1) / 10, 40 * m, m / 10 + 0.05, max(0.0, m / 10 - 0.04))
        if m > 2
        else Reliability(m / 10, (m + 1) / 10, 0, NAN, NAN)
        for m in range(10)
    ]
    return RowDetail(label, "100 %", confusion.astype(np.int64), recalls, bins, 0.964, 0.071)


def tile(number: int, classes: Sequence[str], *, names: Sequence[str] = ()) -> Tile:
    label = classes[number % len(classes)]
    wrong = classes[(number + 1) % len(classes)]
    name = names[number % len(names)] if names else f"Testing/{label}/Te-{number:04d}_original.jpg"
    headings = ("image", "candidates", "encoder saw")
    rest = 0.12 / max(1, len(classes) - 2)
    return Tile(
        name=name,
        label=label,
        pictures={
            heading: picture(10 * number + n, f"{heading} of {name}")
            for n, heading in enumerate(headings)
        },
        facts={"ROI area": "12 %", "score": ".93", "IoU": ".71"},
        probabilities=dict.fromkeys(classes, rest) | {label: 0.1, wrong: 0.78},
        predicted=wrong,
        folded={"all 16 candidates": picture(10 * number + 9, f"16 candidates of {name}")},
    )


def embedding_map(classes: Sequence[str], *, names: Sequence[str] = ()) -> EmbeddingMap:
    noise = generator("report map")
    count = 60
    labels = np.arange(count, dtype=np.int64) % len(classes)
    spots = noise.normal(0, 3, (len(classes), 2))
    layouts = {
        name: (spots[labels] + noise.normal(0, spread, (count, 2))).astype(np.float32)
        for name, spread in (("PCA", 1.4), ("t-SNE", 0.6))
    }
    return EmbeddingMap(
        title="CLIP ViT-B/16 on segmented",
        note="60 of 3,264 images, drawn by seed 0; t-SNE with perplexity 30.",
        layouts=layouts,
        labels=labels,
        names=[names[n % len(names)] if names else f"Training/{n:04d}.jpg" for n in range(count)],
        sides=["test" if n % 3 == 0 else "train" for n in range(count)],
        thumbnails=[picture(n % 7, f"image {n}", size=48) for n in range(count)],
    )


def chapter(classes: Sequence[str], *, names: Sequence[str] = ()) -> Chapter:
    """Fine-tuned networks: a figure, two tables and a gallery."""
    curves = {
        "train_loss": [1.0, 0.5],
        "validation_loss": [1.1, 0.7],
        "train_accuracy": [0.4, 0.8],
        "validation_accuracy": [0.3, 0.6],
    }
    chosen = [{"curves": curves, "epochs": 2}]
    cells = [TunedCell(name, ("fraction", 100.0), [0], chosen) for name in classes[:2]]
    recalls = [["finetune:one", "100 %", name, "90.0 ± 1.0"] for name in classes]
    return Chapter(
        "finetuning",
        "Fine-tuned networks",
        ["Three seeds."],
        [Drawing("learning-one", "Learning curves.", partial(draw_learning, cells))],
        [
            Section("Recall by class, %", ["of", "on", "class", "recall, %"], recalls),
            Section("Trials", ["trial", "state"], [["0", "complete"]]),
        ],
        [Gallery("Errors", "One of two.", [tile(3, classes, names=names)])],
    )


def report(classes: Sequence[str] = CLASSES, *, names: Sequence[str] = ()) -> Report:
    """Everything that a page can show.

    Args:
        names: of the files, in turn; empty for tame ones.
    """
    pairs = [
        Pair(kind, tile(n, classes, names=names), tile(n + 1, classes, names=names), detail)
        for n, (kind, detail) in enumerate(
            [("equal pixels", "both glioma"), ("perceptual hash", "4 of 64 bits differ")]
        )
    ]
    return Report(
        title="Brain Tumor MRI",
        subtitle="profile paper · CLIP ViT-B/16 · SAM2 hiera-large · 3 March 2025",
        classes=list(classes),
        summary=Summary(
            sentences=[
                "fusion on original+segmented is the best of 4 rows with all training images: "
                "88.0 ± 1.2 % of 394 test images are right.",
                "Without the 84 test images that are also among the training images it is "
                "85.0 ± 1.5 %.",
            ],
            warnings=[
                "84 of 394 test images are also among the training images: the accuracy on all "
                "of them flatters every row. Read the clean rows.",
                "2 rows could not run: the weights are missing.",
            ],
            figures={
                "best accuracy": "88.0 ± 1.2 %",
                "without leaks": "85.0 ± 1.5 %",
                "images": "3,264",
                "classes": str(len(classes)),
            },
        ),
        table=table(),
        cells=[
            cell("fusion on original+segmented", classes),
            cell("linear on original", classes),
        ],
        galleries=[
            Gallery(
                f"Masks: {name}",
                "3 of 826, drawn by seed 0.",
                [tile(n + 4 * i, classes, names=names) for i in range(3)],
            )
            for n, name in enumerate(classes[:2])
        ],
        mistakes=Gallery(
            "Mistakes",
            "The 4 most confident of 47 wrong answers.",
            [tile(n, classes, names=names) for n in range(4)],
        ),
        maps=[embedding_map(classes, names=names)],
        duplicates=Duplicates("84 pairs across the split, 2 shown.", pairs),
        chapters=[chapter(classes, names=names)],
        provenance={
            "Commands": {"here": "make report DATASET=brain DATA=../shared/data/brain"},
            "Stores": {"masks": "sam2-16x16-eac5c126 (3,264 rows)"},
            "Packages": {f"package-{n}": f"{n}.0.1" for n in range(14)},
            "Data set": {
                "licence": "CC0 1.0",
                "source": "https://example.org/brain",
                "citation": "S. Bhuvaji et al., Brain Tumor Classification (MRI), 2020.",
            },
        },
    )


def bare_report() -> Report:
    """A report of a data set that was only scanned."""
    return Report(
        title="Chest",
        subtitle="nothing was run",
        classes=[],
        summary=Summary(["Nothing was run yet."]),
        table=ResultsTable("Chest", [], []),
        cells=[],
        galleries=[],
        mistakes=Gallery("Mistakes", "No head was fitted.", []),
        maps=[],
        duplicates=Duplicates("No audit was run: medfocus audit chest"),
        provenance={},
    )
