"""What every configuration is: frozen; and how a stage runs, which changes no numbers."""

import re
from collections.abc import Collection
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from medfocus_pipeline.errors import ConfigError, did_you_mean
from medfocus_pipeline.types import Device

Chosen = TypeVar("Chosen")


class Frozen(BaseModel):
    """Base of every configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, allow_inf_nan=False)


class ThreadsConfig(Frozen):
    """Threads of this process, on one device."""

    name: Literal["threads"] = "threads"


class RayConfig(Frozen):
    """Workers of a Ray cluster that is there already.

    Attributes:
        address: of the cluster's head, ``host:port``; `auto` is the cluster that this machine is
            a node of.
        workers: processes that each load the model; None is as many as the cluster has room for.
        gpus_per_worker: share of a GPU that each takes; None is one where the cluster has any.
    """

    name: Literal["ray"] = "ray"
    address: str = Field(default="auto", pattern=r"^(auto|[^/:\s]+:[0-9]+)$")
    workers: int | None = Field(default=None, ge=1)
    gpus_per_worker: float | None = Field(default=None, ge=0, le=1)


EngineConfig = Annotated[ThreadsConfig | RayConfig, Field(discriminator="name")]


class Runtime(Frozen):
    """How a stage runs; none of it changes what is computed.

    Attributes:
        engine: what distributes the shards.
        batch_size: images a model call; None lets the model choose.
        workers: threads that read and decode images beside the model.
        compile: `torch.compile` the image encoder.
    """

    engine: EngineConfig = ThreadsConfig()
    device: Device = "auto"
    batch_size: int | None = Field(default=None, ge=1, le=65_536)
    workers: int = Field(default=2, ge=1, le=64)
    compile: bool = False

    @property
    def here(self) -> "Runtime":
        """For what the command does by itself: in threads, on a device that is here.

        With a cluster this node need not have the GPU that was asked for.
        """
        if isinstance(self.engine, ThreadsConfig):
            return self
        device: Device = "cpu" if self.device == "cpu" else "auto"
        return self.model_copy(update={"engine": ThreadsConfig(), "device": device})


def method_config(
    union: TypeAdapter[Chosen], name: str, known: Collection[str], *, what: str
) -> Chosen:
    """The configuration of a method with its defaults.

    Args:
        union: of the configurations, which their names tell apart.
        name: of the method.
        known: names of all of them.
        what: a method is called in the message.

    Raises:
        ConfigError: there is no such method; the known ones are listed.
    """
    if name not in known:
        raise ConfigError(
            f"There is no {what} {name!r}.{did_you_mean(name, known)} Known methods: "
            f"{', '.join(known)}."
        )
    return union.validate_python({"name": name})


def _nearest(problem: Any) -> str:
    """Of a name that is not in its table, the one that was probably meant."""
    told = problem.get("ctx", {})
    named = str(told.get("tag", problem["input"]))
    known = str(told.get("expected_tags", told.get("expected", "")))
    return did_you_mean(named, re.findall(r"'([^']+)'", known)) if known else ""


def problems(error: ValidationError) -> list[str]:
    """Every problem of a configuration with its place, one a line."""
    lines = []
    for problem in error.errors(include_url=False):
        if problem["type"] == "too_short" and error.error_count() > 1:
            continue
        place = ".".join(str(part) for part in problem["loc"] if part != "own")
        hint = "; or a plug-in, package.module:Factory"
        more = hint if problem["type"] == "union_tag_invalid" else ""
        more += _nearest(problem)
        lines.append(f"  {place}: {problem['msg']}{more}")
    return lines
