"""Computing the missing rows of a store, and how fast it was."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from medfocus_pipeline.config import Runtime
from medfocus_pipeline.engines import ENGINES, Load
from medfocus_pipeline.project.located import Located
from medfocus_pipeline.project.progress import Progress
from medfocus_pipeline.stores.store import Store


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
    load: Load,
    runtime: Runtime,
    *,
    what: str,
    progress: Progress,
) -> Filled:
    """Fill a store; call it with the store's lock held.

    Args:
        store: of `place`.
        place: whose rows there should be.
        load: gets ready to compute them.
        runtime: engine, device, batch size and workers.
        what: is computed, for the bar.
        progress: of the rows.

    Raises:
        MedFocusError: as the engine.
    """
    with ENGINES[type(runtime.engine)](load, runtime) as fill:
        started = time.monotonic()
        with progress(what, len(place.missing())) as advance:
            outcome = fill(store, place.ids, on_rows=advance)
    return Filled(what, outcome.computed, time.monotonic() - started, outcome.problems)
