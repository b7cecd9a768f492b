"""Computing the missing rows of a store, with a progress bar and how fast it was."""

import time
from collections.abc import Callable
from typing import Any, TypeAlias

from medfocus_pipeline.config import Runtime
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.stores.compute import Outcome, fill
from medfocus_pipeline.stores.job import Job
from medfocus_pipeline.stores.store import Store
from stages.locate import Located
from stages.progress import bar, say_rate

JobMaker: TypeAlias = Callable[..., Job[Any]]
"""The keywords batch_size, workers and calls -> how to compute rows."""


def fill_shown(
    store: Store, place: Located, job: JobMaker, runtime: Runtime, *, what: str
) -> Outcome:
    """Fill a store; call it with the store's lock held and the model loaded.

    Args:
        store: of `place`.
        place: whose rows there should be.
        job: how to compute them.
        runtime: device, batch size and workers.
        what: is computed, for the bar.

    Raises:
        StoreError: the disk is full, or a computed value is not finite.
    """
    started = time.monotonic()
    with (
        calls_at_once(runtime.device) as calls,
        bar(what, len(place.missing())) as advance,
    ):
        computing = job(batch_size=runtime.batch_size, workers=runtime.workers, calls=calls)
        outcome = fill(store, place.ids, computing, on_rows=advance)
    say_rate(what, outcome.computed, time.monotonic() - started)
    return outcome
