"""The report's chapter on fine-tuned networks."""

from collections.abc import Sequence
from functools import partial

from medfocus_pipeline.commands.progress import bar
from medfocus_pipeline.commands.results_table import build
from medfocus_pipeline.commands.tuned import recalls, tuned_cells
from medfocus_pipeline.config import EncoderConfig
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.errors import MedFocusError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.tuned_results import REFERENCE, TunedNetwork, beside, tuned_networks
from medfocus_pipeline.report.content import Chapter, Drawing, Section
from medfocus_pipeline.report.learning import draw_learning
from medfocus_pipeline.report.table import TableRow
from medfocus_pipeline.report.tuned import lessons, search_sections, training_section

_CURVES = (
    "Learning curves of {label}: a colour for the runs of one line and budget, training dashed, "
    "held-out images not; a mark stands at the epoch that was chosen."
)


def fine_tuned(context: Context, dataset: Dataset) -> list[TunedNetwork]:
    """The fine-tuned networks of a data set, by its results."""
    known = results.read(context.folder / "results").to_pylist()
    return tuned_networks(Project(context, dataset, progress=bar), known)


def finetuning_chapter(
    context: Context, dataset: Dataset, networks: Sequence[TunedNetwork]
) -> list[Chapter]:
    """How the networks were trained, beside heads on the same encoder; none without a run."""
    shown = [one for one in networks if one.runs]
    if not shown:
        return []
    project = Project(context, dataset, progress=bar)
    drawings, tables, notes = list[Drawing](), list[Section](), dict[str, None]()
    for encoder in dict.fromkeys(one.tuning.encoder for one in shown):
        own = [one for one in shown if one.tuning.encoder == encoder]
        cells = [cell for one in own for cell in tuned_cells(one.label, one.runs, one.chosen)]
        table_rows = [TableRow(one.label, runs=one.runs) for one in own]
        table_rows += _heads(project, encoder, own)
        label = own[0].tuning.label
        table = build(
            f"{label}, fine-tuned and as it is",
            table_rows,
            context.folder / "results",
            paper=dataset.card.paper,
            reference=REFERENCE,
            classes=dataset.manifest.classes,
            patients=dataset.manifest.patients,
        )
        notes |= dict.fromkeys([*table.notes, *table.details])
        rows = [row for _, row in table.texts()]
        tables += [Section(table.title, table.header(), rows), training_section(cells)]
        tables += [recalls(project, table_rows), *search_sections(cells)]
        name = f"learning-{label.replace('/', '-').lower()}"
        draw = partial(draw_learning, lessons(cells))
        drawings.append(Drawing(name, _CURVES.format(label=label), draw))
    return [
        Chapter(
            "finetuning", "Fine-tuned networks", [*notes, *_unbalanced(shown)], drawings, tables
        )
    ]


def _heads(
    project: Project, encoder: EncoderConfig, networks: Sequence[TunedNetwork]
) -> list[TableRow]:
    """Heads on the encoder as it is that have results on the same subsets."""
    configs = [one.tuning.config for one in networks]
    config = TuningConfig(
        fractions=tuple(sorted({size for one in configs for size in one.fractions})),
        shots=tuple(sorted({size for one in configs for size in one.shots})),
        seeds=max(one.seeds for one in configs),
    )
    own, probe = beside(project, encoder, config)
    try:
        plans = own.plans(probe)
    except MedFocusError:
        return []  # no embeddings of this encoder: nothing was fitted beside it
    done = set(results.read(project.results_folder)["run_key"].to_pylist())
    runs = {one.label: [run for run in one.runs if run.key in done] for one in plans}
    return [TableRow(label, runs=found) for label, found in runs.items() if found]


def _unbalanced(networks: Sequence[TunedNetwork]) -> list[str]:
    """What to run for the recall without balance, where only that with it is known."""
    found = []
    for one in networks:
        run = one.tuning.config.run
        plain = run.model_copy(update={"balance": "none"})
        others = [(each.tuning.encoder, each.tuning.config.run) for each in networks]
        if run.balance != "none" and (one.tuning.encoder, plain) not in others:
            found.append(
                f"Recall before the balance of {one.label}: run make finetune with --balance none "
                "too, and it stands in the table of recalls."
            )
    return found
