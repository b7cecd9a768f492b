"""Fine-tuned networks as lines of the gate's table: they learn from pictures, not from features."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medfocus_pipeline import encoders
from medfocus_pipeline.config import EncoderConfig, GateConfig, Runtime
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.evaluation.gate_reports import MethodReport, images_to_choose_on, reported
from medfocus_pipeline.gate.balanced_threshold import balanced_threshold
from medfocus_pipeline.project.finetuning import Finetuning, Watch
from medfocus_pipeline.project.gate_table import GateTable, all_images, medical_class
from medfocus_pipeline.project.gating import gate_folder
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.tuning.fitting import Material, tune
from medfocus_pipeline.tuning.tuned_runs import TunedRun, check_subsets
from medfocus_pipeline.types import IntArray


def name_of(encoder: EncoderConfig) -> str:
    """Of a network's line."""
    return f"fine-tuned {encoders.label(encoder)}"


@dataclass(frozen=True, slots=True, eq=False)
class GateNetwork:
    """A network, trained on both sides of a project; what was trained is kept and gone on with.

    Attributes:
        tuning: what is trained, on which pictures.
        config: of the gate's table.
        medical: index of the medical class.
    """

    tuning: Finetuning
    config: GateConfig
    medical: int

    @classmethod
    def of(
        cls, project: Project, encoder: EncoderConfig, config: GateConfig, *, medical: str | None
    ) -> "GateNetwork":
        """A line of the table.

        Args:
            project: as it is, not as the gate's features see it.
            encoder: where training begins.
            config: of the table.
            medical: see `gate_table`.
        """
        project.context.need_folder("A fine-tuned network")
        run = TuningConfig(run=config.network, fractions=(100.0,), seeds=1)
        tuning = Finetuning(project, encoder, run)
        return cls(tuning, config, medical_class(project.classes, medical))

    def report(self, table: GateTable, runtime: Runtime, *, watch: Watch) -> MethodReport:
        """Train it, or go on, and score every image.

        Args:
            table: of the same project.
            watch: is told of each epoch.

        Raises:
            DataError: a side is too small, or the training diverged.
            StoreError: the pictures are missing.
        """
        name, data = name_of(self.tuning.encoder), table.data
        rng = generator("gate", name, self.config.seed)
        fitted_on, chosen_on, where = images_to_choose_on(data, rng)
        project = self.tuning.project
        tuning = replace(self.tuning, split=all_images(project).both)
        folder = gate_folder(project.context) / "networks"
        with writing(folder), tuning.material(runtime) as material:
            if material.table.image_ids != table.image_ids:
                raise StoreError(
                    "Images came or went while the gate looked at them. Run: medfocus gate "
                    f"{project.name}"
                )
            [planned] = tuning.runs()
            own, run = _on(material, planned, fitted_on, folder)
            check_subsets(own.table, [run])
            outcome = tune(own, run, told=partial(watch, run))
        scores = outcome.probabilities[:, self.medical]
        threshold = balanced_threshold(scores[chosen_on], data.medical[chosen_on])
        return reported(data, name, "both sides", scores, threshold=threshold, chosen_on=where)


def _on(
    material: Material, planned: TunedRun, fitted_on: IntArray, folder: Path
) -> tuple[Material, TunedRun]:
    """The run on the images that the other lines are fitted on; it answers for all images."""
    every = material.table
    table = replace(
        every,
        train=fitted_on,
        test=np.arange(len(every.labels)),
        clean=np.ones(len(every.labels), np.bool_),
    )
    key = digest([planned.key, sorted(every.image_ids[row] for row in fitted_on)])
    run = replace(
        planned, subset=np.arange(len(fitted_on)), key=key, subset_key=key, search_key=key
    )
    return replace(material, table=table, folder=folder), run
