"""Engines: what distributes the shards of a store. One module each, named in one table."""

from collections.abc import Mapping

from medfocus_pipeline.config import RayConfig, ThreadsConfig
from medfocus_pipeline.engines import ray_actors, threads
from medfocus_pipeline.engines.protocol import Engine, Fill, JobMaker, Load

__all__ = ["ENGINES", "Engine", "Fill", "JobMaker", "Load"]

ENGINES: Mapping[type[ThreadsConfig | RayConfig], Engine] = {
    ThreadsConfig: threads.ready,
    RayConfig: ray_actors.ready,
}
