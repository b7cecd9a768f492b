"""``make rehearse``: the paper's profile at full size, from a hub on this machine, random weights.

CLIP ViT-B/16 and SAM 2.1 tiny of their real shapes, in the files that their repositories have,
are written to a temporary folder, served on the loopback device, pulled, and run on 8 drawn
images. The commands are those that a user types; nothing is left behind.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.hub.repositories import as_pytorch, complete
from tests.hub.server import Hub

CLIP, SAM2 = "openai/clip-vit-base-patch16", "facebook/sam2.1-hiera-tiny"
_ROOT = Path(__file__).parents[2]


def main() -> None:
    """Build, serve, run, remove."""
    from transformers.utils import logging as transformers_logging

    started = time.monotonic()
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    say("The weights are random: the numbers below mean nothing, the way to them is the real one.")
    with tempfile.TemporaryDirectory(prefix="medfocus-rehearsal-") as place:
        folder = Path(place)
        with Hub({repo: folder / "hub" / repo for repo in (CLIP, SAM2)}) as hub:
            write_clip(folder / "hub" / CLIP)
            write_sam2(folder / "hub" / SAM2)
            say(f"hub at {hub.url}: {', '.join(hub.repositories)}")
            environment = surroundings(folder, hub)
            for command in COMMANDS[:2]:
                run(command, folder, environment)
        say("# the hub is stopped: from here on without it")
        for command in COMMANDS[2:]:
            run(command, folder, environment | {"HF_HUB_OFFLINE": "1"})
    say(f"rehearse: {time.monotonic() - started:.0f} s; everything was removed")


COMMANDS = (
    "phantom brain --train 4 --test 4",
    f"models pull {SAM2} {CLIP}",
    "masks phantom-brain --profile paper --size tiny --points-per-side 4"
    " --set segmenter.min_score=0 --set segmenter.min_stability=0",
    "embed",
    "probe --fractions 100 --seeds 1",
)
"""Of the profile the size of SAM 2.1 and its grid are smaller, and a random mask passes too."""


def surroundings(folder: Path, hub: Hub) -> dict[str, str]:
    """The environment of the commands: this hub, a cache of its own, no token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    local = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "PYTHONPATH": path}
    return {**kept, **local, "NO_PROXY": "127.0.0.1,localhost", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def run(command: str, folder: Path, environment: dict[str, str]) -> None:
    """One command of MedFocus in a process of its own; ends this one if it fails."""
    say(f"\n$ medfocus {command}")
    arguments = [sys.executable, "-m", "medfocus_pipeline", *command.split()]
    code = subprocess.run(arguments, cwd=folder, env=environment, check=False).returncode
    if code:
        sys.exit(code)


def write_clip(folder: Path) -> None:
    """ViT-B/16 with 149.6 M random parameters; its tokenizer knows letters, not words."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(
            CLIPConfig(
                text_config={"bos_token_id": 49406, "eos_token_id": 49407},
                vision_config={"patch_size": 16},
            )
        ).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [f"<filler {number}>" for number in range(49406 - len(words))]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    complete(as_pytorch(folder), CLIP)


def write_sam2(folder: Path) -> None:
    """SAM 2.1 tiny with 38.9 M random parameters, as its authors save it."""
    import torch

    from medfocus_pipeline.sam import sam2

    folder.mkdir(parents=True)
    state = sam2.random_model("tiny", seed=0).state_dict()
    torch.save({"model": state}, folder / "sam2.1_hiera_tiny.pt")
    complete(folder, SAM2)


def say(text: str) -> None:
    """A line, at once: the commands print to the same place."""
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
