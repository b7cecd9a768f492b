"""Fine-tuning: what of a network is trained on a subset, and how."""

from typing import Literal

from pydantic import Field

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.heads import Epochs
from medfocus_pipeline.config.probe import Budgets, Fractions
from medfocus_pipeline.types import Fit, FocusMode

Trained = Literal["layer", "last_block", "lora", "all"]
"""The classification layer alone; with it the network's last block and what follows it; low-rank
adapters of its attention; or all of it."""

Balance = Literal["none", "sampler", "weights", "undersample"]
"""Of unequal classes: nothing; each is drawn alike often; the rare ones weigh more in the loss; of
the frequent ones only as many images are drawn in an epoch as the rarest has."""

Augmentation = Literal["none", "trivial_augment", "medical"]


class FinetuneConfig(Frozen):
    """A network, fine-tuned on a subset with a classification layer on its pooled embedding.

    Attributes:
        focus, fit: the pictures, see `EmbedConfig`.
        trained: see `Trained`.
        start: of the classification layer: `probe` is logistic regression on the network as it
            is (Kumar et al. 2022, LP-FT), `zero` is nothing.
        optimizer: `adam` decays no weights.
        learning_rate: the greatest; of `all` that of the last block.
        weight_decay: of matrices and kernels.
        block_decay: of `all`: the rate of each block is so many times that of the next one.
        schedule: of the rate over `epochs`.
        rank: of `lora`'s matrices.
        epochs: at most; of `validation` none, exactly.
        patience: so many epochs without a better one end it.
        batch_size: images an update, however many the memory holds at once.
        clip: greatest norm of the gradient.
        label_smoothing: share of the target that all classes have alike.
        balance: see `Balance`.
        augmentation: of training pictures, a name of `medfocus_pipeline.augmentation`.
        renditions: augmented ones of an image, where what is below the trained block is computed
            once; else each epoch has its own.
        validation: `inside` holds a part of the subset out to choose the epoch, or several in
            turn where it is small; `none` takes all of the subset and all epochs.
        validation_share: of the subset's images.
        least_validation: images of each class that such a part has; else cross-validation.
        folds: of that; fewer where a class has fewer images, or groups of them.
    """

    name: Literal["finetune"] = "finetune"
    focus: FocusMode = "original"
    fit: Fit = "squeeze"
    trained: Trained = "last_block"
    start: Literal["probe", "zero"] = "probe"
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(default=3e-4, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    block_decay: float = Field(default=0.75, gt=0, le=1)
    schedule: Literal["cosine", "constant"] = "cosine"
    rank: int = Field(default=8, ge=1, le=1_024)
    epochs: Epochs = 20
    patience: int = Field(default=5, ge=1, le=10_000)
    batch_size: int = Field(default=16, ge=1, le=65_536)
    clip: float = Field(default=1.0, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    balance: Balance = "none"
    augmentation: Augmentation = "none"
    renditions: int = Field(default=4, ge=1, le=1_000)
    validation: Literal["inside", "none"] = "inside"
    validation_share: float = Field(default=0.2, gt=0, lt=1)
    least_validation: int = Field(default=5, ge=1, le=1_000_000)
    folds: int = Field(default=3, ge=2, le=100)


RECIPES = {
    "few-shot": FinetuneConfig(),
    "medclip-classification": FinetuneConfig(
        trained="all",
        fit="crop",
        start="zero",
        optimizer="adam",
        learning_rate=1e-4,
        weight_decay=0,
        block_decay=1,
        schedule="constant",
        epochs=5,
        batch_size=32,
        clip=1e6,
        balance="sampler",
        validation="none",
    ),
}
"""By name: MedFocus's own, and that of github.com/AnushkaTyagiKIET/MedCLIP-Classification-Model: a
weighted sampler, a linear layer with the image encoder trained, Adam at 1e-4 for 5 epochs, and
nothing held out. There the layer is on BiomedCLIP's embedding as it is, here on its direction."""


class SearchConfig(Frozen):
    """What a search of hyper-parameters tries; the rest is as `FinetuneConfig` has it.

    Attributes:
        trials: number of them; 0 is no search.
        learning_rate, weight_decay: least and greatest, logarithmic.
        label_smoothing: least and greatest.
        trained, balance, augmentation: of which one is taken.
    """

    trials: int = Field(default=0, ge=0, le=10_000)
    learning_rate: tuple[float, float] = (3e-5, 3e-3)
    weight_decay: tuple[float, float] = (1e-4, 1e-1)
    label_smoothing: tuple[float, float] = (0.0, 0.2)
    trained: tuple[Trained, ...] = Field(default=("layer", "last_block"), min_length=1)
    balance: tuple[Balance, ...] = Field(
        default=("none", "sampler", "weights", "undersample"), min_length=1
    )
    augmentation: tuple[Augmentation, ...] = Field(
        default=("none", "trivial_augment", "medical"), min_length=1
    )


class TuningConfig(Budgets):
    """Fine-tuning over fractions (or shots) and seeds, fewer of them than heads are fitted on.

    Attributes:
        run: how each run trains.
        search: what is chosen inside its subset first.
    """

    fractions: Fractions = Field(default=(5.0, 20.0, 100.0), max_length=100)
    seeds: int = Field(default=3, ge=1, le=1_000)
    run: FinetuneConfig = FinetuneConfig()
    search: SearchConfig = SearchConfig()
