"""A SAM 3 of 0.1 M random parameters in a folder, as transformers would save it."""

from pathlib import Path
from typing import Any

from tests.encoders.models import WORDS, tokenizer

IMAGE_SIZE = 112


def write_sam3(folder: Path, *, seed: int = 0) -> Path:
    """Patches of 14 pixels, ten queries, the words of `tests.encoders.models`."""
    import torch
    from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

    width = 32
    layers: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": 32,
        "num_attention_heads": 2,
    }
    one: dict[str, Any] = layers | {"num_layers": 1}
    vit = layers | {
        "model_type": "sam3_vit_model",
        "num_hidden_layers": 2,
        "patch_size": 14,
        "image_size": IMAGE_SIZE,
        "pretrain_image_size": 56,
        "window_size": 4,
        "global_attn_indexes": [1],
    }
    sizes = [[32, 32], [16, 16], [8, 8]]
    config = Sam3Config(
        vision_config={
            "fpn_hidden_size": width,
            "backbone_feature_sizes": sizes,
            "backbone_config": vit,
        },
        text_config=layers
        | {
            "projection_dim": 16,
            "num_hidden_layers": 1,
            "vocab_size": len(WORDS) + 4,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "max_position_embeddings": 32,
        },
        geometry_encoder_config=one,
        detr_encoder_config=one,
        detr_decoder_config=one | {"num_queries": 10},
        mask_decoder_config={"hidden_size": width, "num_attention_heads": 2},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Sam3Model(config).eval()
        with torch.no_grad():
            # What is drawn small makes all queries and texts alike: nothing could go wrong.
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.mul_(4)
    model.save_pretrained(folder)
    pixels = Sam3ImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    Sam3Processor(pixels, tokenizer(32)).save_pretrained(folder)
    return folder
