"""What was asked for last, so that ``make embed`` goes on where ``make masks`` ended."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from medfocus_pipeline.config import Frozen, MasksConfig, ProbeConfig
from medfocus_pipeline.datasets.card import check_name
from medfocus_pipeline.datasets.reading import AS_FOUND, Column, Place, Reading
from medfocus_pipeline.errors import ConfigError, DamagedError, StoreError
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.places import place
from medfocus_pipeline.profiles import DEFAULT, EmbedPlan, Profile, full_name, load_profile
from medfocus_pipeline.sealed import SEAL, parse_json, present, read_json, write_json
from medfocus_pipeline.weights import FileHashes

_log = logging.getLogger(__name__)

SETTINGS, _LAST = "settings.json", "last.json"
_OWNER = "settings"

_FREE = ("data", "card", "images")
"""Where the images lie: another place on each machine that a cache is copied to."""


class Settings(Frozen):
    """What a data set was last run with, in ``<cache>/<dataset>/settings.json``.

    Attributes:
        card: the card that was found, unless it came with MedFocus.
        columns, images, keep_masks: see `Reading`.
        gate: whether a scan leaves out what is no medical image; None is the profile's.
        keep: names and patterns of files that the gate does not leave out.
        masks, embed, probe: configurations of the stages that ran with this profile.
    """

    data: Place
    profile: str
    card: Place | None = None
    columns: dict[Column, str] = Field(default_factory=dict)
    images: Place | None = None
    keep_masks: bool | None = None
    gate: bool | None = None
    keep: tuple[str, ...] = ()
    masks: MasksConfig | None = None
    embed: EmbedPlan | None = None
    probe: ProbeConfig | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """One command's data set, folders and profile.

    Attributes:
        cache: root of all data sets' stores.
        data: folder of class folders, or a CSV.
        reset: the profile was named on the command line, so that a stage begins from it and
            not from what it was last run with.
        passing: what is asked for is not remembered, because it is one of many.
    """

    dataset: str
    cache: Path
    data: Path
    profile_name: str
    profile: Profile
    settings: Settings
    reset: bool
    passing: bool = False

    @property
    def folder(self) -> Path:
        """The data set's part of the cache."""
        return self.cache / self.dataset

    @property
    def reading(self) -> Reading:
        """How the source is read."""
        said = self.settings
        return Reading(columns=said.columns, images=said.images, keep_masks=said.keep_masks)

    @property
    def gate(self) -> bool:
        """Whether a scan leaves out what is no medical image."""
        return self.profile.gate if self.settings.gate is None else self.settings.gate

    def gated(self, gate: bool | None, keep: Sequence[str]) -> "Context":
        """The context with what is said of the gate; None leaves it as it was.

        Args:
            gate: whether a scan leaves out what is no medical image.
            keep: names and patterns of files that it does not leave out, beside those of before.
        """
        kept = tuple(dict.fromkeys([*self.settings.keep, *keep]))
        changes = {"gate": self.settings.gate if gate is None else gate, "keep": kept}
        return replace(self, settings=self.settings.model_copy(update=changes))

    def aside(self, embed: EmbedPlan, *, masks: MasksConfig | None = None) -> "Context":
        """The context with other settings, which are not remembered; None leaves one as it was."""
        changes = {"embed": embed, "masks": masks or self.settings.masks}
        settings = self.settings.model_copy(update=changes)
        return replace(self, settings=settings, passing=True)

    @property
    def masks(self) -> MasksConfig:
        """The mask configuration that was used last, or the profile's."""
        return self.settings.masks or self.profile.masks

    @property
    def embed(self) -> EmbedPlan:
        """The embedding plan that was used last, or the profile's."""
        return self.settings.embed or self.profile.embed

    @property
    def probe(self) -> ProbeConfig:
        """The probe configuration that was used last, or the profile's."""
        return self.settings.probe or self.profile.probe

    def need_folder(self, what: str) -> None:
        """Refuse, before any work, what an object store cannot keep.

        Args:
            what: writes there, as the beginning of a sentence.

        Raises:
            ConfigError: the cache is in one.
        """
        if isinstance(self.cache, ObjectPath):
            raise ConfigError(
                f"{what} keeps checkpoints, which need a folder, and the cache is {self.cache}. "
                f"Copy it, aws s3 sync {self.cache} cache, and name the copy: --cache cache"
            )

    def hashes(self) -> FileHashes:
        """Memo of the weight files' hashes, shared by all data sets."""
        return FileHashes(self.weights_memo)

    @property
    def weights_memo(self) -> Path:
        """The file of `hashes`."""
        return self.cache / "weights.json"

    def remember(
        self,
        *,
        card: Path | None = None,
        masks: MasksConfig | None = None,
        embed: EmbedPlan | None = None,
        probe: ProbeConfig | None = None,
    ) -> None:
        """Write what was asked for; what is None stays as it was."""
        if self.passing:
            return
        given = {"card": card, "masks": masks, "embed": embed, "probe": probe}
        changes = {name: value for name, value in given.items() if value is not None}
        settings = self.settings.model_copy(update=changes)
        with disk_errors(self.cache):
            said = settings.model_dump(mode="json")
            write_json(self.folder / SETTINGS, said, owner=_OWNER, free=_FREE)
            write_json(self.cache / _LAST, {"dataset": self.dataset}, owner=_LAST)


def open_context(
    dataset: str | None,
    *,
    data: Path | None,
    cache: Path,
    profile: str | None,
    reading: Reading = AS_FOUND,
) -> Context:
    """Fill in what the command line left open.

    Args:
        dataset: None is the last one used with this cache.
        data: None is the one used last, or ``data/<dataset>``.
        profile: a name or a YAML file; None is the one used last, or `paper`; another one than
            the last drops the stage configurations that were remembered, the same one those of
            the stage.
        reading: what of it is named comes before what is remembered of the same data.

    Raises:
        ConfigError: no data set was named yet, or the name, profile or an address is not usable.
    """
    cache = place(cache)
    name = check_name(dataset or last_dataset(cache))
    known = _read(cache / name / SETTINGS)
    known = known or Settings(data=Path("data", name).resolve(), profile=DEFAULT)
    profile_name = full_name(profile) if profile else known.profile
    where = place(data).expanduser().resolve() if data else None
    settings = Settings(
        data=where or known.data,
        profile=profile_name,
        card=known.card,
        gate=known.gate,
        keep=known.keep,
        **_reading(known, where, reading),
    )
    if known.profile == profile_name:
        stages = {"masks": known.masks, "embed": known.embed, "probe": known.probe}
        settings = settings.model_copy(update=stages)
    return Context(
        name,
        cache.expanduser(),
        settings.data,
        profile_name,
        load_profile(profile_name),
        settings,
        reset=profile is not None,
    )


def _reading(known: Settings, data: Path | None, named: Reading) -> dict[str, Any]:
    """What is named, and of the same data what is remembered."""
    same = data in {None, known.data}
    said = known.model_dump(include=set(Reading.model_fields)) if same else {}
    said |= named.model_dump(exclude_defaults=True)
    if named.images:
        said["images"] = place(named.images).expanduser().resolve()
    return said


def last_dataset(cache: Path) -> str:
    """Name of the data set that was used last.

    Raises:
        ConfigError: none was.
    """
    try:
        return str(read_json(cache / _LAST, owner=_LAST)["dataset"])
    except (StoreError, KeyError):
        raise ConfigError(
            f"No data set was named and {cache} remembers none. "
            "Name one: make masks DATASET=brain, or medfocus masks brain."
        ) from None


def check_settings(path: Path) -> None:
    """Compare what a data set was last run with with its seal.

    Raises:
        DamagedError: it was changed since; `open_context` uses it all the same, and says so.
        AccessError: it cannot be read now.
    """
    read_json(path, owner=_OWNER, free=_FREE)


def _read(path: Path) -> Settings | None:
    if not present(path):
        return None
    try:
        said = parse_json(path)
        if isinstance(said, dict):
            said.pop(SEAL, None)
        settings = Settings.model_validate(said)
    except (DamagedError, ValueError) as error:
        raise ConfigError(
            f"{path} is damaged or of another version: {error}. Remove it, and name --data and "
            "--profile once more; no store is lost."
        ) from error
    try:
        check_settings(path)
    except DamagedError as error:
        _log.warning("%s. It is used as it stands.", error)
    return settings
