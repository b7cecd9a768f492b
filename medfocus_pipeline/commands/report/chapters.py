"""The report's chapters beside the usual stages: fine-tuned networks, and the gate."""

from collections.abc import Sequence
from functools import partial

from medfocus_pipeline.commands.gate import gate_report
from medfocus_pipeline.commands.output import bar
from medfocus_pipeline.commands.report.opened import Opened
from medfocus_pipeline.commands.results_table import build
from medfocus_pipeline.commands.tuned import recalls, tuned_cells
from medfocus_pipeline.config import EncoderConfig
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.datasets.readers import decode, picture_place
from medfocus_pipeline.errors import ImageError, MedFocusError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.gate_table import read_scores
from medfocus_pipeline.project.gating import gate_folder
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.tuned_results import REFERENCE, TunedNetwork, beside
from medfocus_pipeline.report.content import Chapter, Drawing, Gallery, Section, Tile
from medfocus_pipeline.report.gate import CAPTION, draw_curves, sections
from medfocus_pipeline.report.outlines import encoded
from medfocus_pipeline.report.score_table import TableRow
from medfocus_pipeline.report.tuned import draw_learning, search_sections, training_section

_CURVES = (
    "Learning curves of {label}: a colour for the runs of one line and budget, training dashed, "
    "held-out images not; a mark stands at the epoch that was chosen."
)


def finetuning_chapter(opened: Opened) -> list[Chapter]:
    """How the networks were trained, beside heads on the same encoder; none without a run."""
    dataset, shown = opened.dataset, [one for one in opened.networks if one.runs]
    if not shown:
        return []
    project = Project(opened.context, dataset, progress=bar)
    drawings, tables, notes = list[Drawing](), list[Section](), dict[str, None]()
    for encoder in dict.fromkeys(one.tuning.encoder for one in shown):
        own = [one for one in shown if one.tuning.encoder == encoder]
        cells = [cell for one in own for cell in tuned_cells(one.label, one.runs, one.chosen)]
        table_rows = [TableRow(one.label, runs=one.runs) for one in own]
        table_rows += _heads(project, encoder, own)
        label = own[0].tuning.label
        title = f"{label}, fine-tuned and as it is"
        table = build(title, table_rows, project.results_folder, dataset, reference=REFERENCE)
        notes |= dict.fromkeys([*table.notes, *table.details])
        rows = [row for _, row in table.texts()]
        tables += [Section(table.title, table.header(), rows), training_section(cells)]
        tables += [recalls(project, table_rows), *search_sections(cells)]
        name = f"learning-{label.replace('/', '-').lower()}"
        draw = partial(draw_learning, cells)
        drawings.append(Drawing(name, _CURVES.format(label=label), draw))
    words = [*notes, *_unbalanced(shown)]
    return [Chapter("finetuning", "Fine-tuned networks", words, drawings, tables)]


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


def gate_chapter(context: Context, dataset: Dataset, *, errors: int) -> list[Chapter]:
    """What the gate found; none where no gate looked at the images.

    Args:
        errors: images that each gallery shows at most.

    Raises:
        DamagedError: the written scores were changed.
    """
    notes, drawings = list[str](), list[Drawing]()
    tables, galleries = list[Section](), list[Gallery]()
    if dataset.manifest.gate:
        refused = _refused(context, dataset, errors)
        notes.append(
            f"The gate looked at {len(dataset.manifest.gate_scores):,} images before anything else."
        )
        galleries.append(refused)
    read = read_scores(gate_folder(context))
    if read is not None:
        report = gate_report(context, dataset, *read, errors=errors)
        notes += report.notes
        drawings.append(Drawing("gate-curves", CAPTION, partial(draw_curves, report.methods)))
        tables += sections(report)
        galleries.append(report.errors)
    if not notes:
        return []
    return [Chapter("gate", "Medical or not", notes, drawings, tables, galleries)]


def _refused(context: Context, dataset: Dataset, count: int) -> Gallery:
    """What looks like no medical image, the least like one first."""
    manifest = dataset.manifest
    scores, modalities = manifest.refused, manifest.strings("looks_like")
    names = dict(zip(manifest.paths, manifest.strings("class_name"), strict=True))
    likes = dict(zip(manifest.paths, modalities, strict=True))
    tiles = []
    for path, score in list(scores.items())[:count]:
        facts = {"score": f"{score:.2f}", "kept": "no" if path in dataset.problems else "yes"}
        facts |= {"looks like": likes[path]} if likes[path] else {}
        try:
            picture = decode(*picture_place(context.data / path)).pixels
            pictures = {"image": encoded(picture, alt=f"image {path}")}
        except (OSError, ImageError):
            pictures = {}  # the images are elsewhere
        tiles.append(Tile(path, names[path] or "no class", pictures, facts))
    note = f"{len(scores):,} images, the lowest score first"
    return Gallery("No medical images", f"{note}; {len(tiles):,} are shown.", tiles)
