"""Checkpoints that are not what was written are never gone on with."""

from pathlib import Path

import pytest
import torch

from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.training.checkpoint import load_checkpoint, save_checkpoint


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_found(tmp_path: Path) -> None:
    path, recipe = tmp_path / "checkpoint.pt", {"seed": 0}
    save_checkpoint(path, {"recipe": recipe, "step": 3, "weight": torch.arange(64.0)})
    whole = path.read_bytes()
    state = load_checkpoint(path, recipe=recipe)
    assert state is not None
    assert state["step"] == 3
    assert torch.equal(state["weight"], torch.arange(64.0))
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(WeightsError, match="cannot be read as it was written; delete it"):
            load_checkpoint(path, recipe=recipe)
