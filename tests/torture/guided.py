"""Files that atheris (libFuzzer) makes worse wherever that reaches new lines of a reader.

Run as a program, it is one reader's own process: ``python -m tests.torture.guided NAME COUNTS
CORPUS [libFuzzer's options]``. The readers whose parsers are Python are those that it can see into.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.torture.trial import HARMLESS, REFUSED, TRACEBACK, Counts

KINDS = ("x.dcm", "x.nii", "x.tif", "card.yaml", "x.yaml", "x.csv", "study.yaml", "x.npy")

_INSTRUMENTED = ["medfocus_pipeline", "pydicom", "nibabel", "PIL", "yaml", "csv"]
_LEAST = 250
"""Files of a process: to start one takes longer than to read these."""

_LIMITS = ("-rss_limit_mb=3000", "-timeout=60", "-max_len=20000")


def guided(root: Path, count: int, rng: np.random.Generator) -> Counts:
    """Read guided files, shared among the kinds; each is read, or refused in a sentence."""
    counts, folder = Counts(), root / "guided"
    folder.mkdir(exist_ok=True)
    kinds = KINDS[: max(1, count // _LEAST)]
    for number, kind in enumerate(kinds):
        share = count // len(kinds) + (number < count % len(kinds))
        outcomes = np.memmap(folder / f"{kind}.counts", np.int64, "w+", shape=(2,))
        done = subprocess.run(
            [
                *(sys.executable, "-m", __name__, kind, folder / f"{kind}.counts", folder / kind),
                *(f"-runs={share}", f"-seed={rng.integers(1, 2**31)}", *_LIMITS),
                f"-artifact_prefix={folder}/",
            ],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            errors="replace",
        )
        read, refused = map(int, outcomes)
        counts.update({HARMLESS: read, REFUSED: refused})
        if done.returncode or read + refused < share:
            counts.note(TRACEBACK, f"{kind}: {done.returncode}, {_said(done.stdout, done.stderr)}")
    return counts


def _said(output: str, errors: str) -> str:
    """What a process that broke off said, without libFuzzer's reports of progress."""
    lines = [line for line in (output + errors).splitlines() if not line.startswith(("#", "INFO"))]
    return "\n".join(lines)[-1500:]


def _main() -> None:
    import atheris

    from medfocus_pipeline.errors import MedFocusError

    name, where, corpus = sys.argv[1:4]
    with atheris.instrument_imports(include=_INSTRUMENTED, enable_loader_override=False):
        from tests.torture.inputs import samples
    folder = Path(corpus)
    (folder / "good").mkdir(parents=True, exist_ok=True)
    found = [(content, read) for other, content, read in samples(folder) if other == name]
    for number, (content, _) in enumerate(found):
        (folder / "good" / str(number)).write_bytes(content)
    read = found[0][1]
    outcomes, path = np.memmap(where, np.int64, "r+", shape=(2,)), folder / name

    def once(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read(path)
        except MedFocusError:
            outcomes[1] += 1
        else:
            outcomes[0] += 1

    atheris.Setup([sys.argv[0], str(folder / "good"), *sys.argv[4:]], once)
    atheris.Fuzz()


if __name__ == "__main__":
    _main()
