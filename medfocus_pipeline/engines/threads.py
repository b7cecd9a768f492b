"""Threads of this process, on one device."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from medfocus_pipeline.config import Runtime
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.engines.protocol import Fill, Load
from medfocus_pipeline.stores.compute import fill


@contextmanager
def ready(load: Load, runtime: Runtime, /) -> Iterator[Fill]:
    """See `Engine`; the model is called once for each core, or once on a GPU."""
    make = load()
    with calls_at_once(runtime.device) as calls:
        job = make(batch_size=runtime.batch_size, workers=runtime.workers, calls=calls)
        yield partial(fill, job=job)
