"""``medfocus``, also as ``python -m stages``."""

import gc
import os

from stages import ending


def main() -> None:
    """Start the command line."""
    ending.end_on_signals()
    ending.open_outputs()
    # What imports make lives on: looking for garbage meanwhile is a fifth of the start, and
    # looking for pydantic's plugins, of which there are none, another part of it.
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # torch's threads wait for each other by spinning, and take the cores from one another as
    # soon as anything else runs: four times slower on a busy machine, no faster on an idle one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from stages import cli

    gc.enable()
    ending.interrupt_on_signals()
    try:
        cli.main()
    finally:
        ending.end_on_signals()


if __name__ == "__main__":
    main()
