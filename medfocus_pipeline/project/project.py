"""A data set with its settings, card, manifest, split and stores: MedFocus as a library."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.project.progress import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa

    from medfocus_pipeline.config import EngineConfig, MasksConfig, ProbeConfig
    from medfocus_pipeline.datasets.reading import Reading
    from medfocus_pipeline.datasets.splits import Split
    from medfocus_pipeline.features import FeatureTable
    from medfocus_pipeline.profiles import EmbedPlan
    from medfocus_pipeline.project.dataset import Dataset
    from medfocus_pipeline.project.embeddings import Embeddings
    from medfocus_pipeline.project.masks import Masks
    from medfocus_pipeline.project.plans import Plan
    from medfocus_pipeline.project.regions import Region, Regions
    from medfocus_pipeline.project.settings import Context
    from medfocus_pipeline.types import Candidates, FocusMode


class Project:
    """One data set, and all that is computed of it.

    What the commands do is done here, so that a script and the command line share stores,
    settings and results: one may go on where the other stopped.

    >>> from medfocus_pipeline import Project
    >>> project = Project.open("shapes", data="images")
    >>> filled = project.masks.fill()
    >>> filled = project.embeddings().fill()
    >>> table = project.features("original", "segmented")
    >>> table.classes, len(table.train), len(table.test)
    (('disc', 'square'), 24, 16)
    >>> fitted = project.probe(["linear:original"], workers=1)
    >>> set(project.results()["dataset"].to_pylist())
    {'shapes'}
    >>> image_id = table.image_ids[0]
    >>> project.region(image_id).image.shape
    (64, 64, 3)

    Attributes:
        context: name, folders, profile and settings.
        dataset: images, card and manifest as of the last scan; images that turn out unreadable
            leave it.
        progress: of long work.
    """

    def __init__(
        self, context: "Context", dataset: "Dataset", *, progress: Progress = silent
    ) -> None:
        self.context = context
        self.dataset = dataset
        self.progress = progress

    @classmethod
    def open(
        cls,
        name: str | None = None,
        *,
        data: str | Path | None = None,
        profile: str | None = None,
        reading: "Reading | None" = None,
        cache: str | Path = "cache",
        progress: Progress = silent,
    ) -> "Project":
        """Open a data set, as a command does: its images are scanned if they are there.

        Args:
            name: of the data set; None is the one used last with this cache.
            data: folder of class folders, or a CSV; None is the one used last, or
                ``data/<name>``.
            profile: a name or a YAML file; None is the one used last, or ``paper``.
            reading: columns of a CSV, and where its images are.
            cache: where stores and results are.
            progress: of long work, see `Progress`.

        Raises:
            ConfigError: no data set was named yet, or the name, card or profile is not usable.
            DataError: there is no data, or no usable image in it.
        """
        from medfocus_pipeline.datasets.reading import AS_FOUND
        from medfocus_pipeline.project.settings import open_context

        folder = None if data is None else Path(data)
        context = open_context(
            name, data=folder, cache=Path(cache), profile=profile, reading=reading or AS_FOUND
        )
        return cls.of(context, progress=progress)

    @classmethod
    def of(
        cls,
        context: "Context",
        *,
        images_needed: bool = False,
        rescan: bool = True,
        progress: Progress = silent,
    ) -> "Project":
        """Open the data set of a context.

        Args:
            images_needed: False also works from the manifest of a scan made elsewhere.
            rescan: False takes the manifest as it is, if there is one.
            progress: of long work.

        Raises:
            ConfigError: the card is wrong, or the one used before is gone.
            DataError: there is no data, or no usable image in it.
        """
        from medfocus_pipeline.project.dataset import open_dataset

        dataset = open_dataset(
            context, images_needed=images_needed, rescan=rescan, progress=progress
        )
        return cls(context, dataset, progress=progress)

    def aside(self, embed: "EmbedPlan", *, dataset: "Dataset | None" = None) -> "Project":
        """The project embedded otherwise, which is not remembered as what it was last run with.

        Args:
            embed: the plan.
            dataset: instead of the project's.
        """
        context = self.context.aside(embed)
        return Project(context, dataset or self.dataset, progress=self.progress)

    def rescan(self) -> None:
        """Bring the manifest up to date with the images."""
        from medfocus_pipeline.project.dataset import open_dataset

        self.dataset = open_dataset(self.context, progress=self.progress)

    @property
    def name(self) -> str:
        """Of the data set."""
        return self.context.dataset

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes, in the order of the labels."""
        return self.dataset.manifest.classes

    @property
    def masks(self) -> "Masks":
        """The masks, by the settings of the last run or of the profile that was named."""
        return self.masks_of(self.context.masks)

    def masks_of(self, config: "MasksConfig") -> "Masks":
        """The masks of another configuration."""
        from medfocus_pipeline.project.masks import Masks

        return Masks(self, config)

    def embeddings(self, *focus: "FocusMode") -> "Embeddings":
        """The embeddings of some focus modes; without any named, those of the settings."""
        plan = self.context.embed
        return self.embeddings_of(plan.model_copy(update={"focus": focus}) if focus else plan)

    def embeddings_of(self, plan: "EmbedPlan") -> "Embeddings":
        """The embeddings of another plan."""
        from medfocus_pipeline.project.embeddings import Embeddings

        return Embeddings(self, plan)

    def split(self, config: "ProbeConfig | None" = None) -> "Split":
        """Rows of the manifest that are for training, and for testing."""
        from medfocus_pipeline.project.dataset import split_of

        return split_of(self.dataset, config or self.context.probe)

    def features(self, *parts: str) -> "FeatureTable":
        """Features of all usable images, their parts joined, with labels and split.

        Args:
            parts: such as ``original.levels``, ``segmented``.

        Raises:
            ConfigError: there is no such part, or the encoder lacks what it needs.
            StoreError: some embeddings are missing.
        """
        from medfocus_pipeline.config import ProbeRow
        from medfocus_pipeline.project.plans import features
        from medfocus_pipeline.types import FeaturePart

        try:
            focus = tuple(map(FeaturePart.parse, parts))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        config = self.context.probe.model_copy(update={"rows": (ProbeRow(focus=focus),)})
        [one] = self.plans(config)
        if one.note:
            raise ConfigError(f"{one.label} {one.note}. Name other parts, or another profile.")
        return features(self.dataset, self.split(config), one)

    def plans(self, config: "ProbeConfig") -> "list[Plan]":
        """The rows of a table: their features and runs.

        Raises:
            StoreError: some embeddings are missing.
        """
        from medfocus_pipeline.project.plans import plan
        from medfocus_pipeline.project.stores import check_embedded

        stores = self.embeddings().locate()
        plans = plan(self.context, self.dataset, stores, self.split(config), config)
        # Rows share their stores, and each is surveyed once.
        places = {place.label: place for one in plans for place in one.places}
        check_embedded(self.context, places.values())
        return plans

    def probe(
        self,
        rows: Sequence[str] | None = None,
        *,
        config: "ProbeConfig | None" = None,
        workers: int | None = None,
        engine: "EngineConfig | None" = None,
        progress: Progress | None = None,
    ) -> int:
        """Fit the heads that have no result yet, over data fractions and seeds.

        Args:
            rows: such as ``medfocus``, ``linear:original.levels``; None is the settings'.
            config: rows, fractions, shots, seeds; None is the settings'.
            workers: processes of this machine that fit; None is the cores.
            engine: where they are fitted; None is the profile's.
            progress: instead of the project's.

        Returns:
            How many runs were fitted.

        Raises:
            ConfigError: a row is none.
            StoreError: some embeddings are missing.
        """
        from medfocus_pipeline.config import ProbeRow
        from medfocus_pipeline.project.plans import parse_row

        config = config or self.context.probe
        if rows is not None:
            chosen = tuple(ProbeRow.model_validate(parse_row(text)) for text in rows)
            config = config.model_copy(update={"rows": chosen})
        plans = self.plans(config)
        self.context.remember(card=self.dataset.card_path, probe=config)
        return self.fit(
            plans, self.split(config), workers=workers, engine=engine, progress=progress
        )

    def fit(
        self,
        plans: "Sequence[Plan]",
        split: "Split",
        *,
        workers: int | None = None,
        engine: "EngineConfig | None" = None,
        progress: Progress | None = None,
    ) -> int:
        """Fit the runs of some rows that have no result yet; see `probe`."""
        from medfocus_pipeline.devices import cores
        from medfocus_pipeline.project.fits import fit_missing

        return fit_missing(
            self.dataset,
            split,
            plans,
            self.results_folder,
            workers=workers or cores(),
            engine=engine or self.context.profile.engine,
            progress=progress or self.progress,
        )

    @property
    def results_folder(self) -> Path:
        """Where results, predictions and subsets are."""
        return self.context.folder / "results"

    def results(self, *metrics: str) -> "pa.Table":
        """What was measured so far, as an Arrow table with a row a run.

        Args:
            metrics: scores to compute from the predictions, such as ``auroc`` or
                ``accuracy_clean``; without any named, all there are.

        Raises:
            ConfigError: there is no such metric.
            StoreError: a file is damaged, or cannot be read now.
        """
        from medfocus_pipeline.evaluation.scores import ALL, read_scored

        return read_scored(self.results_folder, metrics or ALL)

    def predictions(self) -> "pa.Table":
        """What each run said of each test image, as an Arrow table.

        Raises:
            StoreError: the file is damaged, or cannot be read now.
        """
        from medfocus_pipeline.evaluation import results

        return results.read(self.results_folder, "predictions")

    def subsets(self) -> "pa.Table":
        """The training images of each subset that a result names, as an Arrow table.

        Raises:
            StoreError: the file is damaged, or cannot be read now.
        """
        from medfocus_pipeline.evaluation import results

        return results.read(self.results_folder, "subsets")

    def candidates(self, image_id: str) -> "Candidates":
        """The candidate masks of an image.

        Raises:
            StoreError: it has none yet.
        """
        from medfocus_pipeline.segmentation import MaskReader

        return MaskReader(self.masks.store)(image_id)

    def regions(self) -> "Regions":
        """The regions of all images, as the embeddings have them.

        Raises:
            StoreError: masks or embeddings are missing.
        """
        from medfocus_pipeline.project.regions import open_regions, shown_embedding

        stores = self.embeddings().locate()
        config, _ = shown_embedding(self.context, self.dataset, stores)
        return open_regions(self.context, self.dataset, self.masks.store, config)

    def region(self, image_id: str) -> "Region":
        """An image with its candidates, its region and what the encoder was given.

        Raises:
            ImageError: the image cannot be read.
            StoreError: masks or embeddings are missing.
        """
        return self.regions().read(image_id)

    def need_images(self) -> None:
        """Refuse to compute without the images.

        Raises:
            DataError: they are not there.
        """
        if not self.context.data.exists():
            raise DataError(
                f"{self.context.data} is not there, and some of its images are not computed yet. "
                "Name the folder with --data, or make with DATA=."
            )

    def leave_out(self, problems: Mapping[str, str]) -> None:
        """Go on without images that turned out unreadable.

        Args:
            problems: image id -> why.
        """
        self.dataset = self.dataset.without(self.context, problems)
