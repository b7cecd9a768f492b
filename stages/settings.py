"""What was asked for last, so that ``make embed`` goes on where ``make masks`` ended."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from medfocus_pipeline.config import EmbedConfig, Frozen, MasksConfig
from medfocus_pipeline.datasets.card import check_name
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.files import disk_errors, replacing
from medfocus_pipeline.profiles import DEFAULT, Profile, load_profile
from medfocus_pipeline.weights import FileHashes


class Settings(Frozen):
    """What a data set was last run with, in ``<cache>/<dataset>/settings.json``.

    Attributes:
        masks, embed: configurations of the stages that ran with this profile, if they did.
    """

    data: Path
    profile: str
    masks: MasksConfig | None = None
    embed: tuple[EmbedConfig, ...] | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """One command's data set, folders and profile.

    Attributes:
        cache: root of all data sets' stores.
        data: folder of class folders, or a CSV.
    """

    dataset: str
    cache: Path
    data: Path
    profile_name: str
    profile: Profile
    settings: Settings

    @property
    def folder(self) -> Path:
        """The data set's part of the cache."""
        return self.cache / self.dataset

    @property
    def masks(self) -> MasksConfig:
        """The mask configuration that was used last, or the profile's."""
        return self.settings.masks or self.profile.masks

    @property
    def embed(self) -> tuple[EmbedConfig, ...]:
        """The embedding configurations that were used last, or the profile's."""
        return self.settings.embed or tuple(self.profile.embed.configs())

    def hashes(self) -> FileHashes:
        """Memo of the weight files' hashes, shared by all data sets."""
        return FileHashes(self.cache / "weights.json")

    def remember(
        self,
        *,
        masks: MasksConfig | None = None,
        embed: tuple[EmbedConfig, ...] | None = None,
    ) -> "Context":
        """Write what was asked for; a stage's configuration stays until it is replaced."""
        changes = {"masks": masks or self.settings.masks, "embed": embed or self.settings.embed}
        settings = self.settings.model_copy(update=changes)
        with disk_errors(self.cache):
            _write(self.folder / "settings.json", settings.model_dump_json(indent=2))
            _write(self.cache / "last.json", json.dumps({"dataset": self.dataset}))
        return Context(
            self.dataset, self.cache, self.data, self.profile_name, self.profile, settings
        )


def open_context(
    dataset: str | None, *, data: Path | None, cache: Path, profile: str | None
) -> Context:
    """Fill in what the command line left open.

    Args:
        dataset: None is the last one used with this cache.
        data: None is the one used last, or ``data/<dataset>``.
        profile: None is the one used last, or `paper`; another one than the last drops the
            stage configurations that were remembered.

    Raises:
        ConfigError: no data set was named yet, or the name or profile is not usable.
    """
    name = check_name(dataset or last_dataset(cache))
    known = _read(cache / name / "settings.json")
    profile_name = profile or (known.profile if known else DEFAULT)
    where = data.resolve() if data else (known.data if known else Path("data", name).resolve())
    settings = Settings(data=where, profile=profile_name)
    if known and known.profile == profile_name:
        settings = settings.model_copy(update={"masks": known.masks, "embed": known.embed})
    return Context(name, cache, where, profile_name, load_profile(profile_name), settings)


def last_dataset(cache: Path) -> str:
    """Name of the data set that was used last.

    Raises:
        ConfigError: none was.
    """
    try:
        return str(json.loads((cache / "last.json").read_text(encoding="utf-8"))["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"No data set was named and {cache} remembers none. "
            "Name one: make masks DATASET=brain, or medfocus masks brain."
        ) from None


def _read(path: Path) -> Settings | None:
    try:
        return Settings.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, ValueError):
        return None


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
