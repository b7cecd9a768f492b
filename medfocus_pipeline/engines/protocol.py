"""What an engine is: it fills a store's missing rows, a shard at a time, anywhere."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from medfocus_pipeline.columns import Ids
from medfocus_pipeline.config import Runtime
from medfocus_pipeline.stores.compute import Outcome
from medfocus_pipeline.stores.job import Job
from medfocus_pipeline.stores.store import Store

JobMaker: TypeAlias = Callable[..., Job[Any]]
"""The keywords batch_size, workers and calls -> how to compute rows."""

Load: TypeAlias = Callable[[], JobMaker]
"""Gets ready to compute rows where it is called: the model, and whatever else is read."""


class Fill(Protocol):
    """Computes and writes every missing row of a store."""

    def __call__(
        self,
        store: Store,
        image_ids: Ids,
        *,
        on_rows: Callable[[int], None],
    ) -> Outcome:
        """Fill a store; call it with the store's lock held.

        A shard is computed whole by one process and committed there, data first, then its index
        part. On a CPU the store is the same, bit for bit, whatever the engine and the number of
        its workers, and one engine goes on where another ended.

        Args:
            image_ids: every row that should be there.
            on_rows: told the number of rows that are done more; called in the caller's thread.

        Raises:
            StoreError: the disk is full, or a computed value is not finite.
        """


class Engine(Protocol):
    """Gets ready to fill stores, and puts everything away with the block."""

    def __call__(self, load: Load, runtime: Runtime, /) -> AbstractContextManager[Fill]:
        """Ready to fill.

        Args:
            load: called once in each process that computes; it can be pickled where that is
                another one.
            runtime: whose `engine` is this one's configuration.

        Raises:
            MedFocusError: what `load` raises; the device, or where the engine runs, is not there.
        """
