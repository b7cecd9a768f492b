"""``make bench-scale``: what a run that has nothing to do costs, as the collection grows.

The stores are written by the code that fills them, with made-up rows; the images are empty files
that the manifest says have been scanned, so that no step looks into one.
"""

import json
import math
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
from rich.table import Table

from medfocus_pipeline import embedding, segmentation
from medfocus_pipeline.commands.output import err, out, say
from medfocus_pipeline.config import Runtime
from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets.inputs import Inputs
from medfocus_pipeline.datasets.reading import AS_FOUND
from medfocus_pipeline.datasets.tree import columns_below, find_images
from medfocus_pipeline.encoders import load_encoder, need_weights
from medfocus_pipeline.files import replacing
from medfocus_pipeline.project.located import Fillable, writing
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.stores import wanted_embeddings
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.job import Block, Job
from medfocus_pipeline.stores.opening import ArraySpec
from medfocus_pipeline.types import JSON
from tests.bench.pictures import CLASSES
from tests.bench.whole import WITH_PEAK

_NAME = "made-up"
_SMALL = 100
"""Rows of the run whose time is taken for Python's start and the imports."""

_FILES_A_FOLDER = 10_000
_IMAGES_A_PATIENT = 4
_BATCH = 1024
_PROFILE = """
masks: { segmenter: { name: threshold }, max_candidates: 2, frame: 16 }
embed: { encoder: { name: efficientnet-lite0 }, focus: [segmented], views: [identity] }
probe: { rows: [{ head: { name: linear }, focus: [segmented] }] }
"""
"""Rows of few bytes: what is measured are their number and that of the files."""


def run(output: Path, *, rows: Sequence[int], folder: Path | None, repeats: int) -> None:
    """Measure collections of so many rows, print a table and write `output`.

    Args:
        rows: sizes, ascending; a small one is measured before them.
        folder: where they are made, and left; None is a temporary one.
        repeats: of each command; the median counts.
    """
    figures: dict[int, JSON] = {}
    for count in (_SMALL, *rows):
        with _place(folder) as root:
            err.print(f"{count:,} rows: making the stores")
            made = make(root / str(count), rows=count)
            err.print(f"{count:,} rows: measuring")
            figures[count] = made | measure(root / str(count), repeats=repeats)
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _print(figures)
    say(f"written to {output}")


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        yield folder


def make(root: Path, *, rows: int) -> JSON:
    """A data set with its masks and embeddings, unless it is there: seconds, and files of each."""
    started = time.perf_counter()
    if not (root / "done").exists():
        _write_manifest(root, rows)
        profile = root / "profile.yaml"
        profile.write_text(_PROFILE)
        project = Project.open(
            _NAME, data=root / "data", cache=root / "cache", profile=str(profile)
        )
        _fill_masks(project)
        _fill_embeddings(project)
        (root / "done").touch()
    took = time.perf_counter() - started
    stores = [path.parent for path in sorted((root / "cache" / _NAME).glob("*/*/store.json"))]
    files = {
        f"{store.parent.name}_files": sum(path.is_file() for path in store.rglob("*"))
        for store in stores
    }
    return {"making_seconds": took, **files}


def measure(root: Path, *, repeats: int) -> JSON:
    """Seconds of commands that have nothing to do, their peak memory, and those of the index."""
    figures: JSON = {}
    for command in ("scan", "masks", "embed", "status"):
        arguments = ["-c", WITH_PEAK, command, _NAME, "--cache", str(root / "cache")]
        runs = [_run(arguments) for _ in range(repeats)]
        figures |= _medians(command, runs)
    figures |= _anew(root, repeats=repeats)
    figures |= _added(root, repeats=repeats)
    figures |= _probed(root, repeats=repeats)
    store = Project.open(_NAME, cache=root / "cache").masks.store
    started = time.perf_counter()
    store.index()
    figures["index_seconds"] = time.perf_counter() - started
    return figures


def _anew(root: Path, *, repeats: int) -> JSON:
    """Of `scan` that finds no file changed, but has to work out every row."""
    path = root / "cache" / _NAME / "manifest.parquet"
    before, runs = path.read_bytes(), []
    for _ in range(repeats):
        manifests.write(manifests.read(path).with_inputs(""), path)
        try:
            runs.append(_run(["-c", WITH_PEAK, "scan", _NAME, "--cache", str(root / "cache")]))
        finally:
            path.write_bytes(before)
    return _medians("scan_anew", runs)


def _added(root: Path, *, repeats: int) -> JSON:
    """Of `scan` after ten pictures have come, which are then taken away."""
    manifest = root / "cache" / _NAME / "manifest.parquet"
    folder = root / "data" / CLASSES[0] / "new"
    before, runs = manifest.read_bytes(), []
    for _ in range(repeats):
        folder.mkdir()
        for number in range(10):
            pixels = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)
            PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
        try:
            runs.append(_run(["-c", WITH_PEAK, "scan", _NAME, "--cache", str(root / "cache")]))
        finally:
            shutil.rmtree(folder)
            manifest.write_bytes(before)
    return _medians("scan_of_10_more", runs)


def _probed(root: Path, *, repeats: int) -> JSON:
    """Of `probe` on a hundredth of the training images, which reads the features of all images."""
    arguments = ["-c", WITH_PEAK, "probe", _NAME, "--cache", str(root / "cache")]
    arguments += ["--fractions", "1", "--seeds", "1", "--workers", "1"]
    settings, runs = root / "cache" / _NAME / "settings.json", []
    before = settings.read_bytes()
    for _ in range(repeats):
        shutil.rmtree(root / "cache" / _NAME / "results", ignore_errors=True)
        runs.append(_run(arguments))
    settings.write_bytes(before)  # `status` is about the profile's own fractions and seeds
    [place] = Project.open(_NAME, cache=root / "cache").embeddings().locate().embeddings
    if place.store is None:
        raise RuntimeError("the embeddings that were made up are not there")
    width = math.prod(place.store.row_shape("pooled"))
    return _medians("probe", runs) | {"features_megabytes": 4 * width * len(place.ids) / 1e6}


def _medians(command: str, runs: Sequence[tuple[float, float, float]]) -> JSON:
    """Of what `_run` says, each by its name."""
    kinds = ("seconds", "elapsed", "megabytes")
    columns = zip(kinds, zip(*runs, strict=True), strict=True)
    return {f"{command}_{kind}": statistics.median(values) for kind, values in columns}


def _run(arguments: list[str]) -> tuple[float, float, float]:
    """Processor seconds, elapsed ones and peak megabytes of a command.

    A busy machine changes the elapsed ones alone.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    after, elapsed = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, elapsed, float(run.stdout.split()[-1])


def _write_manifest(root: Path, rows: int) -> None:
    """Empty files, and a manifest of an earlier scan that saw a picture in each."""
    data = root / "data"
    for number in range(rows):
        folder = data / CLASSES[number % 2] / f"{number // _FILES_A_FOLDER:04d}"
        if number % _FILES_A_FOLDER < 2:
            folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:07d}.png").touch()
    found = [
        (
            *(sha256(file.path.encode()).hexdigest(), file.path, "", CLASSES.index(name), name),
            *(patient, "", patient, 64, 64, "L", 0, file.mtime_ns),
        )
        for number, file in enumerate(find_images(data))
        for name in [file.path.partition("/")[0]]
        for patient in [f"{number // _IMAGES_A_PATIENT:07d}"]  # as the headers of DICOM files say
    ]
    manifest = manifests.build(
        [(*row, "") for row in found],
        name=_NAME,
        classes=CLASSES,
        from_card=False,
        source=str(data.resolve()),
    )
    inputs = Inputs(name=_NAME, source=str(data.resolve()), card=None, reading=AS_FOUND)
    manifest = manifest.with_inputs(inputs.of_tree(columns_below(data)))
    manifests.write(manifest, root / "cache" / _NAME / "manifest.parquet")


def _fill_masks(project: Project) -> None:
    masks = project.masks
    [spec] = segmentation.array_specs(masks.config)
    columns = {
        **{name: [0.5, 0.25] for name in ("score", "stability", "support", "contrast", "area")},
        "boxes": [[0, 0, 8, 8], [8, 8, 16, 16]],
        "candidates": 2,
        "width": 64,
        "height": 64,
    }
    kinds = {**segmentation.COLUMNS, **dict.fromkeys(("candidates", "width", "height"), pa.int32())}
    _fill(
        masks.target()[1],
        [spec],
        {name: pa.scalar(value, kinds[name]) for name, value in columns.items()},
        shard_rows=segmentation.SHARD_ROWS,
    )
    if masks.fill() is not None:  # it also remembers the settings
        raise RuntimeError("the masks that were made up are not those of the settings")


def _fill_embeddings(project: Project) -> None:
    embeddings, masks = project.embeddings(), project.masks.store
    [config] = embeddings.configs
    weights = need_weights(config.encoder, project.context.hashes())
    encoder = load_encoder(config.encoder, weights, Runtime())
    target = wanted_embeddings(project.context, project.dataset, config, masks).by(weights)
    columns = {
        "fallback": pa.scalar(False),
        "roi_area": pa.scalar(0.5, pa.float32()),
        "roi_seen": pa.scalar(1.0, pa.float32()),
        "pixel_sha256": pa.scalar("0" * 64),
    }
    specs = embedding.array_specs(config, encoder)
    _fill(target, specs, columns, shard_rows=embedding.SHARD_ROWS)
    if embeddings.fill():
        raise RuntimeError("the embeddings that were made up are not those of the settings")


def _fill(
    target: Fillable,
    specs: Sequence[ArraySpec],
    columns: dict[str, Any],
    *,
    shard_rows: int,
) -> None:
    """Every row of a store: the same values for all."""

    def compute(ids: Sequence[str]) -> Block:
        arrays = {spec.name: np.ones((len(ids), *spec.shape), spec.dtype) for spec in specs}
        return Block(arrays, {name: pa.repeat(one, len(ids)) for name, one in columns.items()})

    job = Job(str, compute, _BATCH, workers=1)
    with writing(target, specs, shard_rows=shard_rows) as store:
        fill(store, target.ids, job)


def _print(figures: dict[int, JSON]) -> None:
    """Values by size, and the exponent of the growth from the last but one to the last."""
    sizes = sorted(figures)[1:]
    beyond = (f"+ {size:,}" for size in sizes)
    table = Table("what", f"{_SMALL:,} images", *beyond, "exponent", box=None)
    base = figures[_SMALL]
    for name in base:
        over = name.endswith(("_seconds", "_elapsed", "_megabytes")) and not name.startswith(
            ("making", "features")
        )
        values = [figures[size][name] - (base[name] if over else 0) for size in sizes]
        row = [f"{one:,.3g}" if one < 1000 else f"{one:,.0f}" for one in (base[name], *values)]
        table.add_row(name.replace("_", " "), *row, _exponent(sizes, values))
    out.print(table)
    say(f"+: processor seconds, elapsed ones and megabytes beyond a collection of {_SMALL} rows")


def _exponent(sizes: Sequence[int], values: Sequence[float]) -> str:
    if len(sizes) < 2 or min(values[-2:]) <= 0:
        return ""
    return f"{math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2]):.2f}"
