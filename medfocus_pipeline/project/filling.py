"""Computing the missing rows of a store, and how fast it was."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from medfocus_pipeline.config import Runtime
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.project.progress import Progress
from medfocus_pipeline.project.stores import Located
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.job import Job
from medfocus_pipeline.stores.store import Store

JobMaker: TypeAlias = Callable[..., Job[Any]]
"""The keywords batch_size, workers and calls -> how to compute rows."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What filling a store came to.

    Attributes:
        what: was computed.
        computed: number of rows.
        seconds: that it took.
        problems: image id -> why it has no row.
        unit: what the rows are of.
    """

    what: str
    computed: int
    seconds: float
    problems: Mapping[str, str]
    unit: str = "images"


def fill_missing(
    store: Store,
    place: Located,
    job: JobMaker,
    runtime: Runtime,
    *,
    what: str,
    progress: Progress,
) -> Filled:
    """Fill a store; call it with the store's lock held and the model loaded.

    Args:
        store: of `place`.
        place: whose rows there should be.
        job: how to compute them.
        runtime: device, batch size and workers.
        what: is computed, for the bar.
        progress: of the rows.

    Raises:
        StoreError: the disk is full, or a computed value is not finite.
    """
    started = time.monotonic()
    with (
        calls_at_once(runtime.device) as calls,
        progress(what, len(place.missing())) as advance,
    ):
        computing = job(batch_size=runtime.batch_size, workers=runtime.workers, calls=calls)
        outcome = fill(store, place.ids, computing, on_rows=advance)
    return Filled(what, outcome.computed, time.monotonic() - started, outcome.problems)
