"""Runs the trials and prints their counts; exits with 1 if one is bad."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a forked process has none of the threads of this one
os.environ["HF_HUB_OFFLINE"] = "1"

from tests.torture.campaign import COMMANDS, NUMBERS, campaign
from tests.torture.trial import BAD, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    for name, number in NUMBERS.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--commands", default=",".join(COMMANDS), help="that are killed")
    options = parser.parse_args()
    numbers = {name: getattr(options, name) for name in NUMBERS}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        names = options.commands.split(",")
        found = campaign(Path(name), numbers, seed=options.seed, jobs=options.jobs, names=names)
    found = {name: counts for name, counts in found.items() if counts}
    print(table(found))
    for counts in found.values():
        for example in counts.examples[:20]:
            print(f"  {example}")
    print(f"{time.monotonic() - started:.0f} s")
    return int(any(counts[bad] for counts in found.values() for bad in BAD))


if __name__ == "__main__":
    sys.exit(main())
