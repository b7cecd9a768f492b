"""A SAM of 0.1 M random parameters in a folder, as Hugging Face would save it."""

from pathlib import Path
from typing import Any

IMAGE_SIZE, MASK_SIDE = 64, 16
"""In pixels and in cells."""


def random_sam(*, seed: int = 0, width: int = 32) -> Any:
    """Two blocks of `width` channels, one of them windowed, on 4 x 4 patches."""
    import torch
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    vision = SamVisionConfig(
        hidden_size=width,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=16,
        window_size=2,
        global_attn_indexes=[1],
        mlp_dim=64,
        num_pos_feats=16,
        initializer_range=0.05,  # the default is 1e-10
    )
    prompts = SamPromptEncoderConfig(hidden_size=32, image_size=IMAGE_SIZE, patch_size=16)
    decoder = SamMaskDecoderConfig(
        hidden_size=32, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32
    )
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SamModel(config)
        with torch.no_grad():
            # Masks and scores of a new decoder hardly differ: nothing could go wrong unnoticed.
            for head in (*model.mask_decoder.output_hypernetworks_mlps,):
                head.proj_out.weight.mul_(20)
            model.mask_decoder.iou_prediction_head.proj_out.weight.mul_(10)
            model.mask_decoder.iou_prediction_head.proj_out.bias.fill_(0.5)
    return model.eval()


def write_sam(folder: Path, *, seed: int = 0, width: int = 32) -> Path:
    """The folder of a `random_sam`."""
    random_sam(seed=seed, width=width).save_pretrained(folder)
    return folder
