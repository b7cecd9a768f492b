"""The gate against the bare network that it looks with, and against stage one's embedding."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from medfocus_pipeline import embedding
from medfocus_pipeline.config import EfficientNetLiteConfig, EmbedConfig, Runtime
from medfocus_pipeline.datasets.readers import read_image
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.encoders.fit import fitted
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.gate.gate import verdicts, whole_features
from medfocus_pipeline.gate.own import OwnGate
from medfocus_pipeline.project.looking import Looked
from medfocus_pipeline.project.progress import Advance, silent
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.opening import create
from medfocus_pipeline.types import JSON
from medfocus_pipeline.weights import FileHashes, Weights
from tests.bench.pictures import write_pictures
from tests.bench.stage_one import seconds_of

_SIDE = 512


def measure(folder: Path, *, images: int, repeats: int) -> JSON:
    """A data set's own gate: an image alone, a folder, and a folder that is embedded already."""
    config = EfficientNetLiteConfig()
    weights = find_weights(config, FileHashes(), download=False)
    if weights is None:
        raise ValueError("the weights are in a package that MedFocus depends on")
    root = write_pictures(folder / f"gate-{images}", images=images, side=_SIDE)
    paths = sorted(root.rglob("*.jpg"))
    files = {str(path): str(path.relative_to(root)) for path in paths}
    looked = Looked(config, weights, "levels", "squeeze")
    rows = looked.features(folder / "nothing", root, files, silent)
    gate = OwnGate.of(np.stack([*rows.values()]), generator("bench"))
    alone = _alone(looked, gate, paths)
    whole = [
        seconds_of(lambda: looked.features(folder / "nothing", root, files, silent))
        for _ in range(repeats)
    ]
    embedded = [
        _embedded(folder / f"cache-{number}", looked, weights, root, files)
        for number in range(repeats)
    ]
    return {
        "images": len(files),
        **alone,
        "folder_milliseconds_an_image": 1e3 * statistics.median(whole) / len(files),
        "embedding_seconds": statistics.median(one[0] for one in embedded),
        "gate_of_embedded_seconds": statistics.median(one[1] for one in embedded),
        "gate_over_embedding": statistics.median(one[1] / one[0] for one in embedded),
    }


def _alone(looked: Looked, gate: OwnGate, paths: Sequence[Path]) -> JSON:
    """An image by itself, from its file to its score, beside the network's pass alone."""
    import torch

    tower = looked.loaded
    if not isinstance(tower, ImageTower):
        raise ValueError("EfficientNet-Lite0 is an image tower")
    pixels = [
        torch.from_numpy(np.array(fitted(read_image(path), tower, looked.fit)[None]))
        for path in paths
    ]

    def bare(number: int) -> None:
        with torch.inference_mode():
            tower.embed(pixels[number])

    def check(number: int) -> None:
        image = read_image(paths[number])
        verdicts(gate, whole_features(tower, [image], feature="levels", fit=looked.fit))

    for number in range(3):
        bare(number)
        check(number)
    every = range(len(paths))
    return {
        "alone_milliseconds": 1e3 * _median(check, every),
        "bare_network_milliseconds": 1e3 * _median(bare, every),
    }


def _median(work: Callable[[int], None], numbers: Sequence[int]) -> float:
    found = []
    for number in numbers:
        started = time.perf_counter()
        work(number)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def _embedded(
    dataset: Path, looked: Looked, weights: Weights, root: Path, files: dict[str, str]
) -> tuple[float, float]:
    """Seconds of embedding all images anew, and of the gate after it."""
    config = EmbedConfig(encoder=looked.encoder, focus="original", views=("identity",))
    encoder = load_encoder(looked.encoder, weights, Runtime())
    recipe = embedding.recipe(config, weights.identity, masks=None, prompts=())
    place = dataset / embedding.STAGE / recipe.folder("bench")
    store = create(
        place, recipe, embedding.array_specs(config, encoder), shard_rows=embedding.SHARD_ROWS
    )
    with calls_at_once("auto") as calls:
        job = embedding.job(
            encoder,
            config,
            lambda name: read_image(Path(name)),
            None,
            batch_size=None,
            workers=2,
            calls=calls,
        )
        embedding_seconds = seconds_of(lambda: fill(store, list(files), job))

    def gate() -> None:
        rows = looked.features(dataset, root, files, _refuse)
        features = np.stack([*rows.values()])
        verdicts(OwnGate.of(features, generator("bench")), features)

    return embedding_seconds, seconds_of(gate)


@contextmanager
def _refuse(what: str, total: int, /) -> Iterator[Advance]:
    if total:
        raise ValueError(f"{what}: {total} images are not in the store")
    yield lambda rows, total=None, /: None
