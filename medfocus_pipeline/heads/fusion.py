"""The paper's multimodal fusion M = F(T, I), then logistic regression on the frozen M.

MedFocusCLIP, section III-B: F fuses the image features I with the class texts T, a linear
head C classifies M, and both train under L = lambda L_c + (1 - lambda) L_e. What F is says
`fusion_mix`; the losses and the training are in `fusion_train`, in the space of `fusion_space`,
and the choice of lambda in `fusion_lambda`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import FusionConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.common import check
from medfocus_pipeline.heads.fusion_lambda import LambdaCurve, Run, curves
from medfocus_pipeline.heads.fusion_mix import Weights, fuse
from medfocus_pipeline.heads.fusion_space import Space
from medfocus_pipeline.heads.fusion_train import train_fusions
from medfocus_pipeline.heads.linear import FittedLinear, choose_c, fit_rows
from medfocus_pipeline.heads.protocol import ManyHead, TrainingSet
from medfocus_pipeline.heads.row_space import RowSpace
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import JSON, FloatArray

LIBRARIES = ("sklearn.linear_model", "torch")
"""What a fit computes with."""


@dataclass(frozen=True, slots=True)
class FusionHead(ManyHead["FittedFusion"]):
    """F and C trained by AdamW on all views of the images, then `config.classifier` on M.

    The classifier's C is chosen by cross-validation on I, not on M: F has seen the labels of
    every training image, so that M of a held-out fold would flatter a great C. M has the
    length of I, so that one C means the same for both. Lambda is then chosen with that C.
    Both depend on the subset alone, with folds and first weights that are the same for every
    generator: seeds that share a subset share the choice, and its cost.

    Without class texts, class embeddings are learned with the rest and start from the mean
    feature of each class; ``chosen["text"]`` then says "learned", else "encoder".
    """

    config: FusionConfig

    def fit_many(
        self, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
    ) -> "list[FittedFusion]":
        """The same for several subsets, whose trainings run side by side."""
        with single_threaded(*LIBRARIES):
            choosing, mixes = zip(*self._choices(trains), strict=True)
            runs = [
                self._run(train, one.axes, one.c, rng)
                for train, one, rng in zip(trains, choosing, rngs, strict=True)
            ]
            trainings = [
                run.training(np.arange(len(run.train.labels)), mix=mix)
                for run, mix in zip(runs, mixes, strict=True)
            ]
            weights = train_fusions(trainings, config=self.config)
            return [
                self._freeze(run, trained, mix=mix)
                for run, trained, mix in zip(runs, weights, mixes, strict=True)
            ]

    def lambda_curve(self, train: TrainingSet, lambdas: Sequence[float]) -> LambdaCurve:
        """What cross-validation inside the subset says of each lambda in 0 .. 1.

        The folds are those by which `fit` chooses.

        Raises:
            DataError: a class has one image, so that no fold can be held out.
        """
        with single_threaded(*LIBRARIES):
            run = self._choosing(train)
            if run.smallest() < 2 or not any(run.folds(self.config.loss_mix_folds)):
                raise DataError(
                    "A class of the training subset has 1 image, or all its images are of one "
                    "patient: cross-validation of lambda needs 2 or more of each. "
                    "Use a larger fraction or more shots."
                )
            [curve] = curves([run], lambdas, config=self.config)
        return curve

    def _choices(self, trains: Sequence[TrainingSet]) -> list[tuple[Run, float]]:
        """What chose for each set, and lambda; sets of the same images are asked once."""
        distinct: list[TrainingSet] = []
        places = []
        for train in trains:
            same = (place for place, one in enumerate(distinct) if _same_images(train, one))
            places.append(next(same, len(distinct)))
            distinct += [train] if places[-1] == len(distinct) else []
        runs = [self._choosing(one) for one in distinct]
        mixes = self._mixes(runs)
        return [(runs[place], mixes[place]) for place in places]

    def _choosing(self, train: TrainingSet) -> Run:
        """The run by which C is chosen, and lambda will be."""
        check(train)
        space = RowSpace.of(train.features)
        c = choose_c(
            space.rows,
            train.labels,
            config=self.config.classifier,
            rng=_chooser(),
            groups=train.groups,
        )
        return self._run(train, space.basis, c, _chooser())

    def _run(
        self, train: TrainingSet, axes: NDArray[np.float64], c: float, rng: np.random.Generator
    ) -> Run:
        import torch

        basis, seed, fold = (int(number) for number in rng.integers(2**32, size=3))
        draws = torch.Generator().manual_seed(basis)
        space = Space.of(train, width=self.config.width, generator=draws)
        return Run(train, space, axes, c, seed, fold)

    def _mixes(self, runs: Sequence[Run]) -> list[float]:
        """Lambda of each run."""
        config = self.config
        grid = config.loss_mix_grid if config.loss_mix is None else (config.loss_mix,)
        if len(set(grid)) == 1:
            return [grid[0] for _ in runs]
        able = [
            run
            for run in runs
            if run.smallest() >= config.classifier.min_images
            and any(run.folds(config.loss_mix_folds))
        ]
        found = iter(curves(able, grid, config=config))
        return [next(found).best if run in able else config.default_loss_mix for run in runs]

    def _moves(self, run: Run) -> NDArray[np.float64]:
        """``(D, w + 1) float64``: M is a row of I moved along B, then made longer or shorter."""
        origin = run.train.features.mean(axis=(0, 1), dtype=np.float64)
        return np.column_stack([run.space.basis.numpy().astype(np.float64), origin])

    def _freeze(self, run: Run, weights: Weights, *, mix: float) -> "FittedFusion":
        frozen = {name: tensor.numpy() for name, tensor in weights.items()}
        fusion = Fusion(run.space.basis.numpy(), frozen, self.config)
        fused = fusion(run.train.features)
        rows = RowSpace.near(fused, run.axes, self._moves(run))
        linear = fit_rows(rows, replace(run.train, features=fused), c=run.c)
        text = "learned" if run.train.text is None else "encoder"
        return FittedFusion(fusion, linear, {"C": run.c, "lambda": mix, "text": text})


def _chooser() -> np.random.Generator:
    """What the choice of C and lambda draws from, whatever the run's own generator."""
    return generator("fusion", "choice")


def _same_images(one: TrainingSet, other: TrainingSet) -> bool:
    return np.array_equal(one.labels, other.labels) and np.array_equal(one.features, other.features)


@dataclass(frozen=True, slots=True, eq=False)
class Fusion:
    """A frozen F.

    Attributes:
        basis: ``(D, w) float32``, B.
        weights: the arrays of `fusion_mix.Weights`.
        config: variant and temperature.
    """

    basis: FloatArray
    weights: dict[str, FloatArray]
    config: FusionConfig

    def __call__(self, features: FloatArray) -> FloatArray:
        """M for ``(n, v, D) float32`` features, of the same shape and dtype."""
        return fuse(self.weights, self.basis, features, self.config)


@dataclass(frozen=True, slots=True, eq=False)
class FittedFusion:
    """A frozen F and the classifier of its M.

    Attributes:
        fusion: F.
        linear: logistic regression on M.
        chosen: ``{"C": ..., "lambda": ..., "text": "encoder" | "learned"}``.
    """

    fusion: Fusion
    linear: FittedLinear
    chosen: JSON

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views."""
        with single_threaded("torch"):
            fused = self.fusion(features)
        return self.linear.predict_proba(fused)
