"""timm's models of the rows of `reproduce` and of the gate, as repositories of a hub."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.hub.repositories import complete
from tests.hub.server import Hub

SMALL: dict[str, dict[str, Any]] = {
    "resnet50.a1_in1k": {"layers": (1, 1, 1, 1)},
    "res2net50_26w_4s.in1k": {"layers": (1, 1, 1, 1)},
    "vit_base_patch16_224.augreg2_in21k_ft_in1k": {"embed_dim": 48, "depth": 2, "num_heads": 2},
    "swin_base_patch4_window7_224.ms_in22k_ft_in1k": {
        "embed_dim": 16,
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 2, 2),
    },
    "resnet18.a1_in1k": {"layers": (1, 1, 1, 1)},
    "efficientnet_b0.ra_in1k": {},
}
"""The class of each by its name, with these numbers smaller; EfficientNet-B0 has none to set."""

PAPERS = list(SMALL)[:4]
"""Of the paper's table."""


def serve_timm(hub: Hub, root: Path, names: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub with timm's models; whoever builds one by its name gets one of few weights."""
    import timm
    from safetensors.torch import save_file

    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, **given: create(name, **SMALL[name], **given)
    )
    for name in names:
        folder = root / "timm" / name
        folder.mkdir(parents=True)
        save_file(timm.create_model(name).state_dict(), folder / "model.safetensors")
        hub.repositories[f"timm/{name}"] = complete(folder, f"timm/{name}")
