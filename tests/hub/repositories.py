"""Folders laid out as repositories of the hub are, over models that a test has made.

A test saves a tiny random model of the true architecture with the library's own `save_pretrained`
(`tests.encoders.models.save_clip`, `tests.segmenters.sam_models.write_sam` ...), then brings its
tensors into the format that the repository has:

    folder = save_clip(tmp_path / "openai" / "clip-vit-base-patch16")
    as_pytorch(folder)                        # pytorch_model.bin instead of model.safetensors
    as_pytorch(folder, max_shard_size="40KB") # pytorch_model-00001-of-0000n.bin and their index
    complete(folder, "openai/clip-vit-base-patch16")   # and whatever else `listings.yaml` names

`complete` fails if the folder has a file that the listing has not: a test cannot serve a layout
that is made from our code. `tests.hub.server.Hub` serves such folders.
"""

from pathlib import Path
from typing import Any

import yaml

LISTINGS: dict[str, Any] = (
    yaml.safe_load(path.read_text(encoding="utf-8"))
    if (path := Path(__file__).with_name("listings.yaml")).is_file()
    else {}
)


def as_pytorch(folder: Path, *, max_shard_size: str = "5GB") -> Path:
    """Moves a folder's safetensors into PyTorch's own format, as the hub's library writes it."""
    from huggingface_hub import save_torch_state_dict
    from safetensors.torch import load_file

    safe = folder / "model.safetensors"
    save_torch_state_dict(
        load_file(safe),
        folder,
        filename_pattern="pytorch_model{suffix}.bin",
        max_shard_size=max_shard_size,
        safe_serialization=False,
    )
    safe.unlink()
    return folder


def complete(folder: Path, repo: str) -> Path:
    """Adds what the listing of a repository has and no test needs, a few bytes each."""
    listed = set(LISTINGS[repo]["files"])
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert present <= listed, f"{repo} has no {present - listed} on the hub"
    for name in listed - present:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = "{}" if name.endswith(".json") else f"{repo} {name}"
        (folder / name).write_text(text, encoding="utf-8")
    return folder
