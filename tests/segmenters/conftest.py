"""A SAM 2 of 0.5 M random parameters, from the sam2 package's own classes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

IMAGE_SIZE = 128
FRAME = IMAGE_SIZE // 4


def tiny_config(width: int = 64) -> dict[str, Any]:
    """The structure of SAM 2.1 without its memory: 128 pixels, four blocks, `width` channels."""
    package = "sam2.modeling"
    position = {
        "_target_": f"{package}.position_encoding.PositionEmbeddingSine",
        "num_pos_feats": width,
        "normalize": True,
        "scale": None,
    }
    trunk = {
        "_target_": f"{package}.backbones.hieradet.Hiera",
        "embed_dim": 16,
        "num_heads": 1,
        "stages": [1, 1, 2, 1],
        "window_spec": [8, 4, 8, 4],
        "global_att_blocks": [3],
        "window_pos_embed_bkg_spatial_size": [4, 4],
    }
    neck = {
        "_target_": f"{package}.backbones.image_encoder.FpnNeck",
        "position_encoding": position,
        "d_model": width,
        "backbone_channel_list": [128, 64, 32, 16],
        "fpn_top_down_levels": [2, 3],
        "fpn_interp_model": "nearest",
    }
    encoder = {
        "_target_": f"{package}.backbones.image_encoder.ImageEncoder",
        "scalp": 1,
        "trunk": trunk,
        "neck": neck,
    }
    return {
        "_target_": f"{package}.sam2_base.SAM2Base",
        "image_encoder": encoder,
        "memory_attention": None,
        "memory_encoder": None,
        "num_maskmem": 0,
        "image_size": IMAGE_SIZE,
        "directly_add_no_mem_embed": True,
        "use_high_res_features_in_sam": True,
        "multimask_output_in_sam": True,
        "iou_prediction_use_sigmoid": True,
        "pred_obj_scores": True,
        "pred_obj_scores_mlp": True,
    }


def write_config(path: Path, width: int = 64) -> Path:
    """The YAML of a tiny model, in the package's form."""
    path.write_text(yaml.safe_dump({"model": tiny_config(width)}))
    return path


@pytest.fixture(scope="session")
def tiny_yaml(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("sam2") / "tiny.yaml")


@pytest.fixture(scope="session")
def tiny_model(tiny_yaml):
    """The model, with every bias and norm drawn as well, so that none is forgotten unnoticed."""
    pytest.importorskip("sam2", reason="the optional package sam2 is not installed")
    import torch

    from medfocus_pipeline.sam.sam2 import build_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(tiny_yaml)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_model, tmp_path_factory):
    import torch

    path = tmp_path_factory.mktemp("sam2") / "tiny.pt"
    torch.save({"model": tiny_model.state_dict()}, path)
    return path
