"""Fine-tuning on a cluster: each run is a task, and the next GPU or core with room takes it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import EncoderConfig, RayConfig, Runtime
from medfocus_pipeline.encoders import find_weights, label, load_encoder
from medfocus_pipeline.engines import ray_tasks
from medfocus_pipeline.engines.ray_cluster import check_same_folder
from medfocus_pipeline.evaluation.runs import Outcome
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.model_record import Model, found_again
from medfocus_pipeline.tuning.fitting import Material, folder_of, tune
from medfocus_pipeline.tuning.sources import Pictures
from medfocus_pipeline.tuning.tuned_runs import TunedRun
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import FileHashes, Weights


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """All that a run needs, on whatever node; Ray puts it once into its object store.

    Attributes:
        table: labels, split and keys, without features.
        pictures: ``(n, s, s, 3) uint8``, of the table's images.
        encoder: its configuration.
        identity: of its weights, which each node has.
        memo: of the weights' hashes.
        folder: of the runs' checkpoints and weights, on a file system that every node has.
        results: folder that the command holds the lock of while it trains.
        lock: what stands in it.
        runtime: device, and images at once.
    """

    table: FeatureTable
    pictures: NDArray[np.uint8]
    encoder: EncoderConfig
    identity: ModelIdentity
    memo: Path
    folder: Path
    results: Path
    lock: str
    runtime: Runtime

    @contextmanager
    def material(self, weights: Weights, inputs: Path) -> Iterator[Material]:
        """What runs are trained with here, for as long as they are.

        Args:
            weights: of the encoder.
            inputs: folder that its pictures are shared in.
        """
        with Pictures(self.pictures, self.table.image_ids, inputs) as pictures:
            yield Material(
                self.table,
                pictures,
                lambda: load_encoder(self.encoder, weights, self.runtime),
                self.encoder,
                label(self.encoder),
                self.folder,
                self.runtime.batch_size,
            )


def train_on_cluster(
    training: Training, runs: Sequence[TunedRun], config: RayConfig
) -> Iterator[Outcome]:
    """The outcome of each run, in their order; those that follow are trained meanwhile.

    A task whose worker dies is done again, from its last checkpoint.

    Raises:
        ConfigError: there is no cluster, no Ray, or no room for a worker.
        MedFocusError: what a run raises; the message names the node.
    """
    with ray_tasks.ready(config, device=training.runtime.device) as tasks:
        yield from tasks.map(_tuned, training, runs)


def _tuned(training: Training, run: TunedRun) -> Outcome:
    """In a worker: one run.

    Raises:
        StoreError: this node does not see the folder that the command writes in.
        WeightsError: the encoder's weights are not here, or are others.
    """
    check_same_folder(training.results, training.lock)
    model, hashes = Model.of(training.identity), FileHashes(training.memo)
    weights = found_again(find_weights, training.encoder, model, hashes, owner="store")
    # Two tasks of a node must not write into each other's files.
    inputs = folder_of(training.folder, run.key).with_suffix(".inputs")
    with training.material(weights, inputs) as material:
        return tune(material, run)
