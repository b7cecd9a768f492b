"""Zero-shot: phrases of medical images against phrases of others, as MediCLIP tells them apart.

With l_i = <x, t_i> / temperature the logit of phrase i of a dual encoder (Radford et al. 2021),
and a side's phrases pooled to one number (`config.Pooling`),

    score(x) = pooled(l of the medical phrases) - pooled(l of the others)

which is the log-odds of a softmax over the two sides: positive is medical at even odds. Pooled by
`sum` the softmax is over all phrases, its shares added up by side, as MediCLIP's published code
has it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import Pooling
from medfocus_pipeline.datasets.gate_prompts import GatePrompts
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.types import FloatArray
from medfocus_pipeline.vectors import normalise


@dataclass(frozen=True, slots=True, eq=False)
class ZeroShot:
    """The phrases' texts.

    Attributes:
        texts: ``(P, d) float32``, L2-normalised, those of the medical phrases first.
        groups: the modality or kind of each phrase.
        medical: number of the medical phrases.
        temperature: of the softmax over cosines that the encoder was trained with, > 0.
        pooling: how a side's phrases become one number.
    """

    texts: FloatArray
    groups: tuple[str, ...]
    medical: int
    temperature: float
    pooling: Pooling

    @classmethod
    def of(
        cls, texts: FloatArray, temperature: float, prompts: GatePrompts, pooling: Pooling
    ) -> "ZeroShot":
        """The texts of a card's phrases.

        Raises:
            DataError: there are more or fewer texts than phrases.
        """
        if len(texts) != len(prompts.phrases):
            raise DataError(
                f"{len(texts)} texts for {len(prompts.phrases)} phrases of the gate. Embed again: "
                "medfocus embed"
            )
        return cls(texts, tuple(prompts.groups), prompts.medical_phrases, temperature, pooling)

    def score(self, features: FloatArray) -> NDArray[np.float64]:
        """Log-odds of medical, ``(m,) float64``, of ``(m, d) float32`` features."""
        logits = self._logits(features)
        sides = logits[:, : self.medical], logits[:, self.medical :]
        medical, other = (_pooled(side, self.pooling) for side in sides)
        scores: NDArray[np.float64] = medical - other
        return scores

    def looks_like(self, features: FloatArray) -> list[str]:
        """The modality of the medical phrase that each of ``(m, d)`` features fits best."""
        best = self._logits(features)[:, : self.medical].argmax(axis=1)
        return [self.groups[n] for n in best]

    def _logits(self, features: FloatArray) -> NDArray[np.float64]:
        with single_threaded():
            cosines = normalise(features) @ self.texts.T
        logits: NDArray[np.float64] = cosines.astype(np.float64) / self.temperature
        return logits


def _pooled(logits: NDArray[np.float64], pooling: Pooling) -> NDArray[np.float64]:
    from scipy.special import logsumexp

    match pooling:
        case "best":
            found = logits.max(axis=1)
        case "mean":
            found = logits.mean(axis=1)
        case "sum":
            found = logsumexp(logits, axis=1)
    pooled: NDArray[np.float64] = found
    return pooled
