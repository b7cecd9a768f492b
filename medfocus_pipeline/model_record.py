"""The model that something was made with, written down, and compared with what is here."""

from collections.abc import Callable
from typing import Any

from pydantic import Field

from medfocus_pipeline.config import Frozen
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import FileHashes, Weights


class Model(Frozen):
    """A `ModelIdentity`, for JSON."""

    id: str
    revision: str | None = None
    files: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, identity: ModelIdentity) -> "Model":
        """From a model's identity."""
        return cls(id=identity.id, revision=identity.revision, files=dict(identity.files))


def pinned(config: Any, model: Model) -> Any:
    """An encoder's or segmenter's configuration with the commit of a model of the hub."""
    if model.revision is None or "revision" not in type(config).model_fields:
        return config
    return config.model_copy(update={"revision": model.revision})


def found_again(
    find: Callable[..., Weights | None],
    config: Any,
    model: Model,
    hashes: FileHashes,
    *,
    owner: str = "classifier",
) -> Weights:
    """The weights that something was made with, of those that are here; see `checked`.

    Args:
        find: `find_weights` of the encoders or of the segmenters.
        config: of one of them.
    """
    return checked(find(pinned(config, model), hashes, download=False), model, owner=owner)


def checked(found: Weights | None, wanted: Model, *, owner: str = "classifier") -> Weights:
    """Weights that are here, and those that something was made with.

    Args:
        found: None where they are not on this machine.
        wanted: whose they have to be.
        owner: who needs them, for the message.

    Raises:
        WeightsError: they are missing, or others.
    """
    if found is None:
        commit = f" at the commit {wanted.revision[:12]}" if wanted.revision else ""
        raise WeightsError(
            f"The {owner} needs the weights of {wanted.id}{commit}, which are not on this "
            f"machine. Run: medfocus models pull {wanted.id}"
        )
    have = found.identity.files
    for name in sorted(wanted.files.keys() | have.keys()):
        if wanted.files.get(name) != have.get(name):
            mine, theirs = (_short(files.get(name)) for files in (have, wanted.files))
            raise WeightsError(
                f"The {owner} was made with other weights of {wanted.id}: its {name} has "
                f"the SHA-256 {theirs}, that on this machine {mine}. Its answers would not be "
                f"the measured ones. Put back those weights, or make the {owner} again."
            )
    return found


def _short(digest: str | None) -> str:
    return "(no such file)" if digest is None else f"{digest[:12]}…"
