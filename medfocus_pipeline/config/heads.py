"""Heads: what is trained on cached features, one configuration each."""

from typing import Annotated, Literal

from pydantic import Field, Tag

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.plugin import OWN, PLUGIN, HeadPluginConfig, own_or_plugin

Epochs = Annotated[int, Field(ge=1, le=10_000)]
Width = Annotated[int, Field(ge=1, le=16_384)]


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
    folds: int = Field(default=3, ge=2, le=100)
    min_images: int = Field(default=3, ge=2, le=1_000_000)


class FusionConfig(Frozen):
    """The paper's fusion F and head C, then logistic regression on the frozen M.

    Attributes:
        variant: what F is, see `heads.fusion_mix`.
        loss_mix: the paper's lambda, L = lambda L_c + (1 - lambda) L_e; None chooses it by
            cross-validation inside the subset.
        loss_mix_grid: what is tried then.
        loss_mix_folds: of that, each a training for every value; fewer when a class is smaller.
        default_loss_mix: used when some class has fewer than `classifier.min_images` images.
        width: dimension of the space that image and text are projected to.
        temperature: of the attention and of the contrastive loss.
        epochs: passes over all views of the images, in batches of `batch_size` views.
        max_steps: of the optimiser; fewer epochs where they would take more.
    """

    name: Literal["fusion"] = "fusion"
    variant: Literal["attention", "concat", "gated", "similarity"] = "attention"
    loss_mix: float | None = Field(default=None, ge=0, le=1)
    loss_mix_grid: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(0.1, 0.5, 0.9), min_length=1
    )
    loss_mix_folds: int = Field(default=2, ge=2, le=100)
    default_loss_mix: float = Field(default=0.5, ge=0, le=1)
    width: int = Field(default=128, ge=1, le=16_384)
    temperature: float = Field(default=0.07, gt=0)
    epochs: int = Field(default=40, ge=1, le=10_000)
    max_steps: int = Field(default=100, ge=1, le=1_000_000)
    batch_size: int = Field(default=64, ge=2, le=65_536)
    learning_rate: float = Field(default=1e-2, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    classifier: LinearConfig = LinearConfig()


class ZeroShotConfig(Frozen):
    """Cosine of image and class texts, softmax at the encoder's temperature; learns nothing."""

    name: Literal["zeroshot"] = "zeroshot"


class CoOpDescentConfig(Frozen):
    """SGD as the authors of CoOp train, by whose code other heads are trained too.

    Attributes:
        warmup_rate: learning rate of the first epoch; the others follow a cosine.
        momentum, weight_decay: those of the authors' code.
    """

    name: str
    learning_rate: float = Field(default=0.002, gt=0)
    warmup_rate: float = Field(default=1e-5, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    batch_size: int = Field(default=32, ge=1, le=65_536)


class CoOpConfig(CoOpDescentConfig):
    """CoOp (Zhou et al. 2022): learned context tokens before each class's name.

    Attributes:
        context: tokens, shared by all classes.
        initial: words that the context starts from, as many tokens as they have; None draws
            `context` tokens from N(0, 0.02).
        epochs: for 1, for 2 to 4, and for 8 and more shots; a fraction counts as the nearest
            of them to its mean number of images a class.
    """

    name: Literal["coop"] = "coop"
    context: int = Field(default=16, ge=1, le=512)
    initial: str | None = Field(default=None, min_length=1)
    epochs: tuple[Epochs, Epochs, Epochs] = (50, 100, 200)


class CoCoOpConfig(CoOpDescentConfig):
    """CoCoOp (Zhou et al. 2022): context tokens that a small network shifts for each image.

    Attributes:
        initial: words that the context starts from, as many tokens as they have.
        reduction: of the network's hidden layer against the image feature.
        batch_size, epochs: those of the authors; see `heads.cocoop`.
    """

    name: Literal["cocoop"] = "cocoop"
    initial: str = Field(default="a photo of a", min_length=1)
    reduction: int = Field(default=16, ge=1, le=4_096)
    batch_size: int = Field(default=1, ge=1, le=65_536)
    epochs: int = Field(default=10, ge=1, le=10_000)


class CacheConfig(Frozen):
    """A cache model over the training features, beside the texts.

    Attributes:
        alpha: weight of the cache against the texts where a class has too few images to choose.
        beta: sharpness of the cache then.
        alphas: what cross-validation tries; small ones, because the cache's sum grows with the
            images of a class.
        betas: what it tries.
        folds: of the cross-validation; see `heads.tip_cache.trial_sets`.
        min_images: that every class needs for a choice; with one shot there is none.
    """

    name: str
    alpha: float = Field(default=1.0, ge=0)
    beta: float = Field(default=1.0, gt=0)
    alphas: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0), min_length=1
    )
    betas: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.0, 2.0, 5.5, 10.0, 20.0, 50.0), min_length=1
    )
    folds: int = Field(default=3, ge=2, le=100)
    min_images: int = Field(default=2, ge=2, le=1_000_000)


class TipAdapterConfig(CacheConfig):
    """Tip-Adapter (Zhang et al. 2022): the features are the cache's keys as they are."""

    name: Literal["tip_adapter"] = "tip_adapter"


class TipAdapterFConfig(CacheConfig):
    """Tip-Adapter-F: the same with keys that are trained.

    Attributes:
        epochs, learning_rate, weight_decay, batch_size: of AdamW, along a cosine.
    """

    name: Literal["tip_adapter_f"] = "tip_adapter_f"
    epochs: int = Field(default=20, ge=1, le=10_000)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    batch_size: int = Field(default=256, ge=1, le=65_536)


class ClipAdapterConfig(CoOpDescentConfig):
    """CLIP-Adapter (Gao et al. 2021): a bottleneck MLP on the image feature, texts classify.

    Attributes:
        reduction: of the bottleneck.
        ratio: share of the adapted feature in the residual sum.
        epochs: see `CoOpConfig`; an epoch shows each image by one of its views.
    """

    name: Literal["clip_adapter"] = "clip_adapter"
    reduction: int = Field(default=4, ge=1, le=4_096)
    ratio: float = Field(default=0.2, ge=0, le=1)
    epochs: tuple[Epochs, Epochs, Epochs] = (50, 100, 200)


class LpPlusPlusConfig(Frozen):
    """LP++ (Huang et al. 2024): a linear probe blended with the class texts.

    Attributes:
        iterations: the most of its full-batch block descent; how many is chosen inside the subset.
        momentum: of the block w; 0 is plain descent, whose loss never rises.
        folds: of the cross-validation that chooses.
    """

    name: Literal["lp_plus_plus"] = "lp_plus_plus"
    iterations: int = Field(default=300, ge=1, le=1_000_000)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    folds: int = Field(default=3, ge=2, le=100)


class MlpConfig(Frozen):
    """Three fully connected layers with ReLU on the image feature.

    Attributes:
        widths: of the two hidden layers.
        epochs, learning_rate, weight_decay, batch_size: of AdamW, along a cosine; an epoch shows
            each image by one of its views.
        least_steps: so many are taken where the epochs of a small subset have fewer.
    """

    name: Literal["mlp"] = "mlp"
    widths: tuple[Width, Width] = (256, 128)
    epochs: int = Field(default=60, ge=1, le=10_000)
    least_steps: int = Field(default=160, ge=1, le=1_000_000)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    batch_size: int = Field(default=128, ge=1, le=65_536)


class ProjectionConfig(Frozen):
    """A projection trained to tell classes apart, then logistic regression on it.

    Attributes:
        network: its hidden layers, and how long they train; an epoch shows each view once.
        width: of the projection, which has unit length.
        classifier: its C is not chosen, unless there are several.
    """

    name: str
    network: MlpConfig = MlpConfig()
    width: Width = 64
    classifier: LinearConfig = LinearConfig(c_grid=(1.0,), default_c=1.0)


class ContrastiveConfig(ProjectionConfig):
    """By pairs (Hadsell et al. 2006).

    Attributes:
        margin: distance beyond which two classes are far enough from each other.
    """

    name: Literal["contrastive"] = "contrastive"
    margin: float = Field(default=1.0, gt=0, le=2)


class SupConConfig(ProjectionConfig):
    """By the supervised contrastive loss (Khosla et al. 2020).

    Attributes:
        temperature: of the loss, the paper's is 0.1.
    """

    name: Literal["supcon"] = "supcon"
    temperature: float = Field(default=0.1, gt=0)


_OwnHead = Annotated[
    LinearConfig
    | FusionConfig
    | ZeroShotConfig
    | CoOpConfig
    | CoCoOpConfig
    | TipAdapterConfig
    | TipAdapterFConfig
    | ClipAdapterConfig
    | LpPlusPlusConfig
    | MlpConfig
    | ContrastiveConfig
    | SupConConfig,
    Field(discriminator="name"),
]
HeadConfig = Annotated[
    Annotated[_OwnHead, Tag(OWN)] | Annotated[HeadPluginConfig, Tag(PLUGIN)],
    own_or_plugin(HeadPluginConfig.group, _OwnHead),
]
