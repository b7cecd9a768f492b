"""Heads: what is trained on cached features, one configuration each."""

from typing import Annotated, Literal

from pydantic import Field

from medfocus_pipeline.config.base import Frozen


class LinearConfig(Frozen):
    """Logistic regression on L2-normalised embeddings.

    Attributes:
        c_grid: inverse regularisation strengths tried by cross-validation.
        default_c: used when some class has fewer than `min_images` training images.
        folds: cross-validation folds, grouped by image; fewer when a class is smaller.
    """

    name: Literal["linear"] = "linear"
    c_grid: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0), min_length=1
    )
    default_c: float = Field(default=10.0, gt=0)
    folds: int = Field(default=3, ge=2)
    min_images: int = Field(default=3, ge=2)


class FusionConfig(Frozen):
    """The paper's fusion F and head C, then logistic regression on the frozen M.

    Attributes:
        variant: what F is, see `heads.fusion`.
        loss_mix: the paper's lambda, L = lambda L_c + (1 - lambda) L_e; None chooses it by
            cross-validation inside the subset.
        loss_mix_grid: what is tried then.
        width: dimension of the space that image and text are projected to.
        temperature: of the contrastive loss.
    """

    name: Literal["fusion"] = "fusion"
    variant: Literal["attention", "concat", "gated", "similarity"] = "attention"
    loss_mix: float | None = Field(default=0.5, ge=0, le=1)
    loss_mix_grid: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.1, 0.3, 0.5, 0.7, 0.9), min_length=1
    )
    width: int = Field(default=128, ge=1)
    temperature: float = Field(default=0.07, gt=0)
    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=1e-2, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    classifier: LinearConfig = LinearConfig()


class ZeroShotConfig(Frozen):
    """Cosine of image and class texts, softmax at the encoder's temperature; learns nothing."""

    name: Literal["zeroshot"] = "zeroshot"


class CoOpConfig(Frozen):
    """CoOp (Zhou et al. 2022): learned context tokens before each class's name.

    Attributes:
        context: tokens, shared by all classes.
        initial: words that the context starts from; None draws it from N(0, 0.02).
        epochs: for 1, for 2 to 4, and for more shots; a fraction counts as its mean shots.
    """

    name: Literal["coop"] = "coop"
    context: int = Field(default=16, ge=1)
    initial: str | None = None
    learning_rate: float = Field(default=0.002, gt=0)
    warmup_rate: float = Field(default=1e-5, gt=0)
    batch_size: int = Field(default=32, ge=1)
    epochs: tuple[int, int, int] = (50, 100, 200)


class CoCoOpConfig(Frozen):
    """CoCoOp (Zhou et al. 2022): context tokens that a small network shifts for each image.

    Attributes:
        initial: words that the context starts from.
        batch_size: images a step; the published recipe is 1.
    """

    name: Literal["cocoop"] = "cocoop"
    initial: str = "a photo of a"
    learning_rate: float = Field(default=0.002, gt=0)
    warmup_rate: float = Field(default=1e-5, gt=0)
    batch_size: int = Field(default=1, ge=1)
    epochs: int = Field(default=10, ge=1)


class TipAdapterConfig(Frozen):
    """Tip-Adapter (Zhang et al. 2022): a cache model over the training features.

    Attributes:
        alphas: weights of the cache against the texts that cross-validation tries.
        betas: sharpnesses of the cache that it tries.
        folds: of the cross-validation.
    """

    name: Literal["tip_adapter"] = "tip_adapter"
    alphas: tuple[Annotated[float, Field(ge=0)], ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    betas: tuple[Annotated[float, Field(gt=0)], ...] = (1.0, 2.0, 5.5, 10.0, 20.0, 50.0)
    folds: int = Field(default=3, ge=2)


class TipAdapterFConfig(Frozen):
    """Tip-Adapter-F: the same with keys that are trained.

    Attributes:
        epochs, learning_rate, batch_size: of AdamW, along a cosine.
    """

    name: Literal["tip_adapter_f"] = "tip_adapter_f"
    alphas: tuple[Annotated[float, Field(ge=0)], ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    betas: tuple[Annotated[float, Field(gt=0)], ...] = (1.0, 2.0, 5.5, 10.0, 20.0, 50.0)
    folds: int = Field(default=3, ge=2)
    epochs: int = Field(default=20, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=256, ge=1)


class ClipAdapterConfig(Frozen):
    """CLIP-Adapter (Gao et al. 2021): a bottleneck MLP on the image feature, texts classify.

    Attributes:
        reduction: of the bottleneck.
        ratio: share of the adapted feature in the residual sum.
    """

    name: Literal["clip_adapter"] = "clip_adapter"
    reduction: int = Field(default=4, ge=1)
    ratio: float = Field(default=0.2, ge=0, le=1)
    epochs: int = Field(default=100, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=64, ge=1)


class LpPlusPlusConfig(Frozen):
    """LP++ (Huang et al. 2024): a linear probe blended with the class texts.

    Attributes:
        iterations: of its full-batch block descent.
    """

    name: Literal["lp_plus_plus"] = "lp_plus_plus"
    iterations: int = Field(default=300, ge=1)


class MlpConfig(Frozen):
    """Three fully connected layers with ReLU on the image feature.

    Attributes:
        widths: of the two hidden layers.
    """

    name: Literal["mlp"] = "mlp"
    widths: tuple[int, int] = (256, 128)
    epochs: int = Field(default=100, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    batch_size: int = Field(default=64, ge=1)


HeadConfig = Annotated[
    LinearConfig
    | FusionConfig
    | ZeroShotConfig
    | CoOpConfig
    | CoCoOpConfig
    | TipAdapterConfig
    | TipAdapterFConfig
    | ClipAdapterConfig
    | LpPlusPlusConfig
    | MlpConfig,
    Field(discriminator="name"),
]
