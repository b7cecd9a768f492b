"""``python -m tests.bench regions``: how well a SAM 2 outlines what it is pointed at."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from medfocus_pipeline.commands.output import bar, out, say
from medfocus_pipeline.config import Sam2Config
from medfocus_pipeline.datasets.annotation_files import AnnotationFiles
from medfocus_pipeline.datasets.card import find_card, load_card
from medfocus_pipeline.datasets.phantoms.phantom import KINDS, PICTURES
from medfocus_pipeline.datasets.readers import read_annotation, read_image
from medfocus_pipeline.datasets.scan import data_root, scan
from medfocus_pipeline.errors import ConfigError, DataError, WeightsError
from medfocus_pipeline.sam import sam2
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import Image, Mask
from medfocus_pipeline.weights import FileHashes
from tests.bench.region_scores import mean_scores, phantom_regions, region_scores

Regions = Iterable[tuple[Image, Mask]]
"""Images with one true mask each."""

_COLUMNS = {
    "click": "click",
    "predicted": "as predicted",
    "oracle": "best of three",
    "box": "box",
    "grid": "best of the grid",
}


def run(
    config: Sam2Config, *, dataset: str | None, data: Path | None, count: int, grid: int
) -> None:
    """Measures a model and prints a table of mean IoU.

    Args:
        config: size and checkpoint of the model.
        dataset: a data set with annotations, beside the phantoms.
        data: where it is; None is ``data/<name>``.
        count: regions of each kind of phantoms, and of the data set.
        grid: clicks along each side of a grid; 0 is none.

    Raises:
        ConfigError: only one of data and dataset was named, or sam2 is not installed.
        DataError: the data set has no annotations.
        WeightsError: the model's weights are missing or corrupt.
    """
    if data is not None and dataset is None:
        raise ConfigError("--data needs the name of the data set too, e.g. --dataset breast.")
    annotated = None if dataset is None else _annotated(dataset, data, count)
    model, bicubic = _load(config), sam2.is_bicubic(config.size)
    table = Table("regions", "number", box=None)
    for figure, title in _COLUMNS.items():
        if grid or figure != "grid":
            table.add_column(title, justify="right")
    with bar("regions", count * (len(KINDS) + 1) + len(annotated or ())) as advance:

        def measure(name: str, regions: Regions, *, centroid: bool) -> None:
            scores = []
            for image, mask in regions:
                score = region_scores(
                    model, image, mask, centroid=centroid, grid=grid, bicubic=bicubic
                )
                scores.append(score)
                advance(1)
            means = mean_scores(scores)
            figures = [f"{means[figure]:.3f}" for figure in _COLUMNS if grid or figure != "grid"]
            table.add_row(name, f"{len(scores):,}", *figures)

        for kind in (*KINDS, PICTURES):
            measure(f"phantoms, {kind}", phantom_regions(kind, count), centroid=False)
        if annotated:
            measure(f"{dataset}, annotations", _read(annotated), centroid=True)
    out.print(table)
    say("mean IoU with the true outline; as predicted: what the model thinks of its click's mask")


def _load(config: Sam2Config) -> Any:
    weights = sam2.find_weights(config, FileHashes(), download=True)
    if weights is None:
        raise WeightsError(f"The weights of {sam2.model_id(config)} cannot be found.")
    return sam2.load_model(config, weights)


def _annotated(dataset: str, data: Path | None, count: int) -> list[tuple[Path, Path]]:
    """Images and annotations at random, one pair for each mask.

    Raises:
        DataError: there are none.
    """
    source = (data or Path("data", dataset)).expanduser()
    root = data_root(source)
    own = [path for path in (root / "card.yaml", Path("data", f"{dataset}.yaml")) if path.is_file()]
    card = load_card(own[0]) if own else find_card(dataset)
    with bar("scanning", 0) as advance:
        manifest = scan(source, name=dataset, card=card, on_file=lambda _, total: advance(1, total))
    files = AnnotationFiles(root, card) if card else None
    pairs = [
        (root / path, mask)
        for path in manifest.files.values()
        for mask in (files.of(path) if files else ())
    ]
    pairs = [pair for pair in pairs if read_image(pair[1]).any()]
    if not pairs:
        raise DataError(
            f"{dataset} in {source} has no annotations: its card says where they are "
            "(annotation, see data/README.md), and one of them must not be black."
        )
    chosen = generator("bench regions", dataset).permutation(len(pairs))[:count]
    return [pairs[index] for index in sorted(chosen)]


def _read(pairs: Iterable[tuple[Path, Path]]) -> Iterator[tuple[Image, Mask]]:
    for image_path, mask_path in pairs:
        image = read_image(image_path)
        yield image, read_annotation([mask_path], (image.shape[0], image.shape[1]))
