"""What a report is made from: stores, split, rows, the audit."""

from collections.abc import Sequence
from dataclasses import dataclass

from medfocus_pipeline import embedding
from medfocus_pipeline.commands import audit
from medfocus_pipeline.commands.audit import Measured
from medfocus_pipeline.commands.output import bar
from medfocus_pipeline.commands.report.table_rows import Rows, gather_rows
from medfocus_pipeline.commands.scan import open_dataset
from medfocus_pipeline.config import EmbedConfig
from medfocus_pipeline.datasets.audit import AuditConfig
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.project.dataset import Dataset, split_of
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.regions import Regions, open_regions, shown_embedding
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import Stores, check_embedded, check_masks, locate_stores
from medfocus_pipeline.project.tuned_results import TunedNetwork, tuned_networks
from medfocus_pipeline.stores.store import Store


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """What the report is made from.

    Attributes:
        masks: None where no focus mode has a region.
        config, embedded: the embedding that the pictures are about, and its store.
        regions: None where there are none to draw.
        lacking: why, if there should be some.
        here: whether the images are on this machine.
        networks: that were fine-tuned.
    """

    context: Context
    dataset: Dataset
    stores: Stores
    masks: Store | None
    config: EmbedConfig
    embedded: Store
    split: Split
    rows: Rows
    measured: Measured
    regions: Regions | None
    lacking: str
    here: bool
    networks: Sequence[TunedNetwork]

    @property
    def masked(self) -> bool:
        """Whether the pictures are about regions."""
        return embedding.needs_masks(self.config)


def open_report(context: Context) -> Opened:
    """Everything that is read before anything is drawn.

    Raises:
        StoreError: a stage has not run yet, or a store is corrupt.
    """
    dataset = open_dataset(context, images_needed=False)
    stores = locate_stores(context, dataset, context.embed.configs(auto=dataset.card.roi))
    masks = check_masks(context, stores)
    config, embedded = shown_embedding(context, dataset, stores)
    check_embedded(context, stores.embeddings)
    # The images that the audit finds unreadable are left out of what follows, as elsewhere.
    measured = _audit(context, dataset)
    dataset = measured.dataset
    split = split_of(dataset, context.probe)
    known = results.read(context.folder / "results").to_pylist()
    networks = tuned_networks(Project(context, dataset, progress=bar), known)
    rows = gather_rows(context, dataset, stores, split, networks)
    here = context.data.exists()
    regions, lacking = None, ""
    if here and masks and embedding.needs_masks(config):
        try:
            regions = open_regions(context, dataset, masks, config)
        except WeightsError as error:
            lacking = str(error)
    return Opened(
        context,
        dataset,
        stores,
        masks,
        config,
        embedded,
        split,
        rows,
        measured,
        regions,
        lacking,
        here,
        networks,
    )


def _audit(context: Context, dataset: Dataset) -> Measured:
    """The audit with the thresholds of the last one; written down if there was none."""
    known = audit.thresholds(context.folder)
    if known is not None:
        return audit.measure(context, dataset, known)
    measured = audit.measure(context, dataset, AuditConfig())
    audit.write(context.folder, measured.found, measured.pairs)
    return measured
