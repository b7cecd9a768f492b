"""What every configuration is: frozen; and how a stage runs, which changes no numbers."""

from pydantic import BaseModel, ConfigDict, Field

from medfocus_pipeline.types import Device


class Frozen(BaseModel):
    """Base of every configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Runtime(Frozen):
    """How a stage runs; none of it changes what is computed.

    Attributes:
        batch_size: images a model call; None lets the model choose.
        workers: threads that read and decode images beside the model.
        compile: `torch.compile` the image encoder.
    """

    device: Device = "auto"
    batch_size: int | None = Field(default=None, ge=1, le=65_536)
    workers: int = Field(default=2, ge=1, le=64)
    compile: bool = False
