"""Threads of this process, on one device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medfocus_pipeline.columns import Ids
from medfocus_pipeline.config import Runtime
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.engines.protocol import Fill, Load
from medfocus_pipeline.stores import compute
from medfocus_pipeline.stores.compute import Outcome
from medfocus_pipeline.stores.store import Store


@contextmanager
def ready(load: Load, runtime: Runtime, /) -> Iterator[Fill]:
    """See `Engine`; the model is called once for each core, or once on a GPU."""
    make = load()
    with calls_at_once(runtime.device) as calls:
        job = make(batch_size=runtime.batch_size, workers=runtime.workers, calls=calls)

        def fill(
            store: Store,
            image_ids: Ids,
            *,
            on_rows: Callable[[int], None],
        ) -> Outcome:
            return compute.fill(store, image_ids, job, on_rows=on_rows)

        yield fill
