"""``medfocus probe``: fit heads on the cached features, print the table."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from rich.table import Table

from medfocus_pipeline.config import EmbedConfig, ProbeConfig, ProbeRow
from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.splits import Budget, Split, test_split
from medfocus_pipeline.embedding import needs_masks
from medfocus_pipeline.errors import ConfigError, StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.rows import prediction_rows, result_row, subset_row
from medfocus_pipeline.evaluation.sweep import Labelled, Run, plan_runs, sweep
from medfocus_pipeline.features import FeatureKeys, FeatureTable, class_texts, join
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.stores.lock import writing
from stages.locate import Located, Stores, encoder_label, locate_stores, masks_label
from stages.progress import Advance, bar, out, say
from stages.scan import Dataset, open_dataset
from stages.settings import Context

_TEST_SHARE = 0.3
_RUNS_A_PROCESS = 16
"""Fewer are fitted before a process of their own has imported what it needs."""

_PAPER_METHODS = {("linear", "original"): "CLIP", ("fusion", "original+segmented"): "MedFocusCLIP"}
"""Rows of the paper's tables that ours stand beside."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One line of the table: a head on a feature set, and its runs.

    Attributes:
        places: the embedding stores, in the order of the focus modes.
    """

    row: ProbeRow
    keys: FeatureKeys
    places: list[Located]
    runs: list[Run]

    @property
    def label(self) -> str:
        """``linear on original``."""
        return f"{self.row.head.name} on {'+'.join(self.row.focus)}"

    def missing(self, done: set[str]) -> list[Run]:
        """Runs without a result."""
        return [run for run in self.runs if run.key not in done]


def parse_row(text: str) -> dict[str, object]:
    """``fusion:original+segmented`` as a `ProbeRow`.

    Raises:
        ConfigError: there is no focus mode in it.
    """
    head, sign, focus = text.partition(":")
    if not sign or not focus:
        raise ConfigError(f"--row {text!r}: expected HEAD:FOCUS, e.g. linear:original+segmented.")
    return {"head": {"name": head}, "focus": focus.split("+")}


def run(context: Context, config: ProbeConfig, *, workers: int) -> int:
    """Fit the runs that have no result yet, then print the table.

    Returns:
        0.
    """
    dataset = open_dataset(context, images_needed=False)
    stores = locate_stores(context, dataset, context.embed.configs(auto=dataset.card.roi))
    split = _split(dataset, config)
    plans = plan(context, dataset, stores, split, config)
    for one in plans:
        _check_embedded(context, one)
    folder = context.folder / "results"
    done = _done(folder)
    missing = [(one, one.missing(done)) for one in plans]
    count = sum(len(runs) for _, runs in missing)
    if count:
        with writing(folder), bar("fitting", count) as advance:
            started = time.monotonic()
            for one, runs in missing:
                if runs:
                    table = _features(dataset, stores, split, one)
                    _fit(folder, table, runs, workers=workers, advance=advance)
        say(f"probe: {count:,} runs fitted in {time.monotonic() - started:.1f} s")
    else:
        say(f"probe: all {sum(len(one.runs) for one in plans):,} runs are done, nothing to do")
    context.remember(card=dataset.card_path, probe=config)
    _print(context, dataset, folder, plans)
    say(f"results: {folder / 'results.parquet'}")
    return 0


def count_runs(context: Context, dataset: Dataset, stores: Stores) -> list[tuple[str, int, int]]:
    """(label, runs with a result, runs) of each line of the table."""
    config = context.probe
    plans = plan(context, dataset, stores, _split(dataset, config), config)
    done = _done(context.folder / "results")
    return [(one.label, len(one.runs) - len(one.missing(done)), len(one.runs)) for one in plans]


def plan(
    context: Context, dataset: Dataset, stores: Stores, split: Split, config: ProbeConfig
) -> list[Plan]:
    """Every run of every line, from the manifest and the stores' keys alone."""
    ids, labels = dataset.manifest.image_ids, dataset.manifest.labels
    train, test = (
        Labelled(tuple(ids[row] for row in rows), labels[rows])
        for rows in (split.train, split.test)
    )
    plans = []
    for row in config.rows:
        places = [_place(context, stores, focus) for focus in row.focus]
        keys = _keys(context, dataset, stores, row, places)
        runs = plan_runs(config, row.head, keys, train=train, test=test)
        plans.append(Plan(row, keys, places, runs))
    return plans


def _split(dataset: Dataset, config: ProbeConfig) -> Split:
    share = config.test_share or dataset.card.test_share or _TEST_SHARE
    return test_split(dataset.manifest, test_share=share, seed=config.split_seed)


def _place(context: Context, stores: Stores, focus: str) -> Located:
    modes = list(dict.fromkeys(context.embed.focus))
    if focus in modes:
        return stores.embeddings[modes.index(focus)]
    raise StoreError(
        f"There are no embeddings of the focus {focus}, only of {', '.join(modes)}. "
        f'Run: make embed ARGS="--focus {",".join([*modes, focus])}"'
    )


def _keys(
    context: Context, dataset: Dataset, stores: Stores, row: ProbeRow, places: Sequence[Located]
) -> FeatureKeys:
    config = context.embed
    masked = any(needs_masks(EmbedConfig(focus=focus)) for focus in row.focus)
    masks = stores.masks.store if stores.masks else None
    texts = stores.texts.store if stores.texts else None
    return FeatureKeys(
        segmenter=masks_label(context.masks) if masked else "none",
        roi=config.roi if masked else "none",
        focus=row.focus,
        encoder=encoder_label(config.encoder),
        masks_key=masks.key if masks and masked else None,
        embed_keys=tuple(place.store.key if place.store else "" for place in places),
        text_key=digest([texts.key, dataset.card.prompts()]) if texts else None,
    )


def _check_embedded(context: Context, one: Plan) -> None:
    for place in one.places:
        missing = place.missing()
        if place.store is None or missing:
            raise StoreError(
                f"{len(missing):,} of {len(place.ids):,} images have no embedding of "
                f"{place.label}. Run: make embed DATASET={context.dataset}"
            )


def _done(folder: Path) -> set[str]:
    if not all((folder / f"{name}.parquet").exists() for name in ("predictions", "subsets")):
        return set()
    return set(results.read(folder)["run_key"].to_pylist())


def _fit(
    folder: Path, table: FeatureTable, runs: Sequence[Run], *, workers: int, advance: Advance
) -> None:
    processes = min(workers, 1 + len(runs) // _RUNS_A_PROCESS)
    for outcomes in sweep(table, runs, workers=processes):
        results.append(
            folder,
            results=[result_row(table, outcome) for outcome in outcomes],
            predictions=pa.concat_tables([prediction_rows(table, outcome) for outcome in outcomes]),
            subsets=[subset_row(table, outcome.run) for outcome in outcomes],
        )
        advance(len(outcomes))


def _features(dataset: Dataset, stores: Stores, split: Split, one: Plan) -> FeatureTable:
    texts = stores.texts.store if stores.texts else None
    return join(
        dataset.manifest,
        split,
        [place.store for place in one.places if place.store],
        text=class_texts(texts, dataset.card.prompts()) if texts else None,
        keys=one.keys,
    )


def _print(context: Context, dataset: Dataset, folder: Path, plans: Sequence[Plan]) -> None:
    found = {row["run_key"]: row for row in results.read(folder).to_pylist()}
    budgets = list(dict.fromkeys(run.budget for one in plans for run in one.runs))
    table = Table("accuracy, %", *(_heading(budget) for budget in budgets), box=None)
    learned = False
    for one in plans:
        rows = [found[run.key] for run in one.runs]
        learned |= any('"text": "learned"' in row["chosen"] for row in rows)
        cells = results.summarise(rows)
        table.add_row(one.label, *(_cell(cells.get(budget)) for budget in budgets))
        clean = f"  clean ({rows[0]['n_test_clean']} of {rows[0]['n_test']} test images)"
        table.add_row(clean, *(_cell(cells.get(budget), clean=True) for budget in budgets))
        _add_paper(table, dataset.card, one, budgets)
    say(f"{encoder_label(context.embed.encoder)}, mean ± standard deviation over seeds")
    out.print(table)
    say("clean: without test images whose bytes or pixels are also among the training images")
    if learned:
        say("fusion: the encoder has no text tower, so the class embeddings were learned")


def _heading(budget: Budget) -> str:
    kind, amount = budget
    return f"{amount:g} %" if kind == "fraction" else f"{amount:g} shots"


def _cell(cell: results.Cell | None, *, clean: bool = False) -> str:
    if cell is None or (clean and cell.clean != cell.clean):
        return "-"
    mean, spread = (cell.clean, cell.clean_spread) if clean else (cell.mean, cell.spread)
    return f"{100 * mean:.1f} ± {100 * spread:.1f}"


def _add_paper(table: Table, card: Card, one: Plan, budgets: Sequence[Budget]) -> None:
    method = _PAPER_METHODS.get((one.row.head.name, "+".join(one.row.focus)))
    numbers = card.paper.get(method or "", {})
    values = [numbers.get(amount) if kind == "fraction" else None for kind, amount in budgets]
    if any(value is not None for value in values):
        shown = ["" if value is None else f"{value:.2f}" for value in values]
        table.add_row(f"  paper, {method}", *shown)
