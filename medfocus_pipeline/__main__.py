"""``medfocus``, also as ``python -m medfocus_pipeline``."""

import gc
import os
import sys

from medfocus_pipeline.commands import ending


def main(command: str | None = None) -> None:
    """Start the command line.

    Args:
        command: the one that the arguments of this process are for; the files of ``stages/``
            name theirs.
    """
    if command is not None:
        sys.argv[:1] = ["medfocus", command]
    ending.end_on_signals()
    ending.open_outputs()
    # What imports make lives on: looking for garbage meanwhile is a fifth of the start, and
    # looking for pydantic's plugins, of which there are none, another part of it. Nor is it looked
    # through later: what the modules hold stays to the end.
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # torch's threads wait for each other by spinning, and take the cores from one another as
    # soon as anything else runs: four times slower on a busy machine, no faster on an idle one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Arrow's own allocator keeps what was freed: a fifth of the peak of a million images.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from medfocus_pipeline import cli

    gc.freeze()
    gc.enable()
    ending.interrupt_on_signals()
    try:
        cli.main()
    finally:
        ending.end_on_signals()


if __name__ == "__main__":
    main()
