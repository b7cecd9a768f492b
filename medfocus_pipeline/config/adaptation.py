"""Domain adaptation: what is fitted from source domains to a target, one configuration each."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.heads import ContrastiveConfig, LinearConfig, MlpConfig, SupConConfig
from medfocus_pipeline.config.probe import FeatureParts
from medfocus_pipeline.types import Augmentation, FeaturePart


class SourceConfig(Frozen):
    """Logistic regression on the source's images, nothing adapted: what others must beat."""

    name: Literal["source"] = "source"
    head: LinearConfig = LinearConfig()


class OracleConfig(Frozen):
    """The same on the target's labelled training images: an upper bound, not a method."""

    name: Literal["oracle"] = "oracle"
    head: LinearConfig = LinearConfig()


class SourceMlpConfig(Frozen):
    """Three layers on the source's images, nothing adapted: what `dann` is without its domains."""

    name: Literal["mlp"] = "mlp"
    head: MlpConfig = MlpConfig()


class SourceContrastiveConfig(Frozen):
    """A projection learned from pairs of the source's images, nothing adapted."""

    name: Literal["contrastive"] = "contrastive"
    head: ContrastiveConfig = ContrastiveConfig()


class SourceSupConConfig(Frozen):
    """The same with the supervised contrastive loss."""

    name: Literal["supcon"] = "supcon"
    head: SupConConfig = SupConConfig()


class LabelShiftConfig(Frozen):
    """Source-only for the target's class shares, estimated by EM (Saerens et al. 2002)."""

    name: Literal["label-shift"] = "label-shift"
    head: LinearConfig = LinearConfig()


AloneConfig: TypeAlias = (
    SourceConfig | OracleConfig | SourceMlpConfig | SourceContrastiveConfig | SourceSupConConfig
)
"""Nothing but a head."""


class AdversarialConfig(Frozen):
    """DANN (Ganin et al. 2016): features from which the domain cannot be told; and its kin.

    Attributes:
        name: ``dann+augmentation`` learns from the augmented views too; of ``cdan`` (Long et al.
            2018) the domain cannot be told from features and classes.
        network: its layers and how long they train; the last hidden layer is what the domain
            classifier sees.
        width: of the hidden layer of the domain classifier.
        weights: of the reversed gradient in the end; what is tried. The paper's is 1, for SGD;
            AdamW scales each weight's gradient, and at 1 the networks collapse.
        criterion: what the trials are judged by, see `adaptation.selection`.
        folds: one of so many parts of the source's images is held out to judge by.
    """

    network: MlpConfig = MlpConfig()
    width: int = Field(default=64, ge=1, le=16_384)
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.003, 0.01, 0.03), min_length=1
    )
    criterion: Literal["source", "entropy", "importance"] = "importance"
    folds: int = Field(default=4, ge=2, le=100)
    name: Literal["dann", "dann+augmentation", "cdan"] = "dann"


SCALED = LinearConfig(c_grid=(0.0001, 0.001, 0.01, 0.1, 1.0, 10.0), default_c=0.01)
"""Of features whose dimensions have a variance of 1, hence the small values of C."""


class StandardisedConfig(Frozen):
    """Source-only, each domain standardised by itself: what of an alignment that already gives."""

    name: Literal["standardised"] = "standardised"
    head: LinearConfig = SCALED


class CoralConfig(Frozen):
    """CORAL (Sun et al. 2016): the source with the target's covariance.

    Attributes:
        added: the multiple of the identity that is added to both covariances. The paper's is 1;
            with fewer images than dimensions their small variances are noise, and 30 was best of
            1, 10 and 30 on phantoms of another seed than the demonstration's.
    """

    name: Literal["coral"] = "coral"
    added: float = Field(default=30.0, gt=0)
    head: LinearConfig = SCALED


class SubspaceConfig(Frozen):
    """Subspace alignment (Fernando et al. 2013).

    Attributes:
        widths: numbers of principal axes, of which cross-validation on the source chooses.
    """

    name: Literal["subspace"] = "subspace"
    widths: tuple[Annotated[int, Field(ge=1, le=16_384)], ...] = Field(
        default=(10, 20, 40, 80), min_length=1
    )
    head: LinearConfig = SCALED


AdaptationConfig = Annotated[
    AloneConfig
    | AdversarialConfig
    | StandardisedConfig
    | CoralConfig
    | SubspaceConfig
    | LabelShiftConfig,
    Field(discriminator="name"),
]


class AdaptConfig(Frozen):
    """From hospital to hospital: methods over pairs of domains and seeds.

    Attributes:
        methods: rows of the matrix.
        seeds: number of seeds, 0 .. seeds - 1.
        fraction: percent of the source's training images that a seed draws.
        focus: the parts of the features, such as ``original`` or ``original.levels``.
        augment: augmented views to embed for the methods that learn from them; none is what the
            domains were embedded with.
        copies: how often each of these is drawn.
    """

    methods: tuple[AdaptationConfig, ...] = Field(
        default=(
            SourceConfig(),
            SourceMlpConfig(),
            SourceContrastiveConfig(),
            SourceSupConConfig(),
            AdversarialConfig(),
            AdversarialConfig(name="dann+augmentation"),
            AdversarialConfig(name="cdan"),
            StandardisedConfig(),
            CoralConfig(),
            SubspaceConfig(),
            LabelShiftConfig(),
            OracleConfig(),
        ),
        min_length=1,
    )
    seeds: int = Field(default=5, ge=1, le=1_000)
    fraction: float = Field(default=80.0, gt=0, le=100)
    focus: FeatureParts = (FeaturePart("original"),)
    augment: tuple[Augmentation, ...] = ()
    copies: int = Field(default=4, ge=1, le=100)
