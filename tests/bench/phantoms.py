"""``medfocus bench phantoms``: how fast phantoms are drawn, on one core."""

import time

from rich.table import Table
from threadpoolctl import threadpool_limits

from medfocus_pipeline.commands.output import bar, out, say
from medfocus_pipeline.datasets.phantoms.phantom import KINDS, PICTURES, draw

_WARM_UP = 10


def run(*, count: int) -> None:
    """Draws phantoms of every kind and prints how many a second.

    Args:
        count: of each kind.
    """
    kinds = (*KINDS, PICTURES)
    table = Table("phantoms", "images a second", "ms an image", box=None)
    with threadpool_limits(1), bar("phantoms", count * len(kinds)) as advance:
        for kind in kinds:
            for index in range(_WARM_UP):
                draw(kind, 1, index)
            started = time.process_time()
            for index in range(count):
                draw(kind, 0, index)
            each = (time.process_time() - started) / count
            advance(count)
            table.add_row(kind, f"{1 / each:.0f}", f"{1e3 * each:.1f}")
    out.print(table)
    say(f"{count} of each kind at 224 x 224, processor time of one thread")
