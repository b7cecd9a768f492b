"""Peak memory of a process; it imports nothing that would add to it."""

import resource
import sys
from pathlib import Path


def peak_megabytes() -> float:
    """Peak resident memory of this process so far.

    On Linux from /proc: there ``ru_maxrss`` begins with the peak of the parent process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
