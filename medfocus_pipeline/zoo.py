"""What one implementation of a segmenter or an encoder is, and which models of it users name.

The tables themselves are in `segmenters` and `encoders`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, Protocol, TypeVar, get_args

from medfocus_pipeline.config import Frozen, Runtime
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.weights import FileHashes, Weights, find_files, model_name

Config = TypeVar("Config", bound=Frozen, contravariant=True)
Loaded = TypeVar("Loaded", covariant=True)


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a family.

    Attributes:
        config: what uses it; it has the hub id, and the revision if not ``main``.
        licence: of the weights, as the hub or the authors say.
        dim: of its embedding; None for a segmenter.
        side: of the square picture that it takes, in pixels; None where any size will do.
        pixels: how a picture becomes that square.
        parameters: millions; a download has 4 bytes for each.
        gated: its terms must be accepted on the hub first.
        note: what else a user should know, in a few words.
    """

    config: Frozen
    licence: str
    _: KW_ONLY
    dim: int | None = None
    side: int | None = None
    pixels: str = ""
    parameters: float = 0.0
    gated: bool = False
    note: str = ""

    @property
    def download(self) -> float:
        """About how many bytes its weights have."""
        return 4e6 * self.parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry(Generic[Loaded]):
    """One family: an implementation, and the models that it runs.

    Attributes:
        what: one line about it.
        package: the distribution that it runs on beside torch; empty if none.
        identify: configuration -> `ModelIdentity.id`, known also where the weights are not.
        find: ``(configuration, hashes, *, download)`` -> its weights, without importing torch;
            None if they are not here and `download` is False.
        load: what is loaded, its weights and the runtime -> segmenter or encoder.
        label: configuration -> readable name, for tables and folders.
        settled: configuration -> that which goes into a key: numbers where it left them to the
            model, and no hub id or path, which `ModelIdentity` says better.
        hub: ``(hub id, revision)`` -> configuration, of a family that takes any hub id.
        prefix: how the hub ids begin that are this family's alone; empty if none are.
        has_text: configuration -> whether there is a text tower too.
        has_prompts: ``(weights)`` -> whether that tower takes embeddings (`PromptTower`).
        models: those that users name.
    """

    what: str
    package: str = ""
    identify: Callable[[Any], str]
    find: Callable[..., Weights | None]
    load: Callable[[Any, Weights, Runtime], Loaded]
    label: Callable[[Any], str]
    settled: Callable[[Any], Any] = lambda config: config
    hub: Callable[[str, str | None], Frozen] | None = None
    prefix: str = ""
    has_text: Callable[[Any], bool] = lambda _: False
    has_prompts: Callable[[Weights], bool] = lambda _: False
    models: tuple[Model, ...] = ()


@dataclass(frozen=True, slots=True)
class Families(Generic[Config, Loaded]):
    """What is asked of a table of segmenters or encoders, by a configuration of one of them."""

    entries: Mapping[type[Frozen], ModelEntry[Loaded]]

    def model_id(self, config: Config) -> str:
        """What `ModelIdentity.id` will be, known also where the weights are not."""
        return self.entries[type(config)].identify(config)

    def label(self, config: Config) -> str:
        """Readable name of a segmenter's or an encoder's choice."""
        return self.entries[type(config)].label(config)

    def find_weights(self, config: Config, hashes: FileHashes, *, download: bool) -> Weights | None:
        """The local files and the identity of a model's weights, without importing torch.

        Args:
            config: the segmenter or encoder.
            hashes: memo of file hashes.
            download: fetch what the local cache lacks (this is all that `models pull` does).

        Returns:
            The weights, without files for a segmenter that learns nothing; None if they are not
            in the local cache and `download` is False.

        Raises:
            WeightsError: they cannot be had, or the name does not say which they are.
        """
        return self.entries[type(config)].find(config, hashes, download=download)

    def need_weights(self, config: Config, hashes: FileHashes, *, download: bool = True) -> Weights:
        """`find_weights`, of what cannot do without.

        Raises:
            WeightsError: the weights are not here, or cannot be had.
        """
        found = self.find_weights(config, hashes, download=download)
        if found is None:
            raise WeightsError(
                f"The weights of {self.label(config)} are not on this machine. Run: "
                f"medfocus models pull {self.model_id(config)}"
            )
        return found


class OfHub(Protocol):
    """A configuration that names its model as the hub does, or by a folder."""

    @property
    def model(self) -> str:
        """Hub id, or path of a folder."""

    @property
    def revision(self) -> str | None:
        """Branch, tag or commit; None is ``main``."""


def hub_id(config: OfHub) -> str:
    """The hub id, or the name of a local folder: never a path."""
    return model_name(config.model)


def hub_label(config: OfHub) -> str:
    """The last part of `hub_id`."""
    return hub_id(config).rpartition("/")[2]


def hub_finder(*files: str, optional: Sequence[str] = ()) -> Callable[..., Weights | None]:
    """`ModelEntry.find` of a family whose models all have files of the same names.

    Args:
        files: that a model needs, see `find_files`.
        optional: names taken where they exist.
    """

    def find(config: OfHub, hashes: FileHashes, *, download: bool) -> Weights | None:
        return find_files(
            config.model,
            files,
            optional=optional,
            revision=config.revision,
            hashes=hashes,
            download=download,
        )

    return find


def name_of(config: type[Frozen]) -> str:
    """The name that chooses a family, as its configuration has it; a plug-in's is its place."""
    literal = get_args(config.model_fields["name"].annotation)
    return str(literal[0]) if literal else "package.module:Factory"
