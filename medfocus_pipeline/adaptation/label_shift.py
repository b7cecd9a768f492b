"""Label shift: source-only, its prior corrected to the target's class shares.

Where the classes look the same in both domains and only their shares differ, Bayes' rule turns
p(k | x) of the source into that of the target, with the shares pi of the source and rho of the
target:

    q(k | x) ~ p(k | x) rho_k / pi_k

rho is estimated without labels by EM (Saerens, Latinne and Decaestecker 2002, "Adjusting the
outputs of a classifier to new a priori probabilities", equation 2.9): from rho = pi, it becomes the
mean of q over the target's training images, again and again. It maximises their likelihood, which
is concave in rho. pi are the shares in the images that the classifier was fitted on, which are the
means of its probabilities there.

Where more than the shares differ, the estimate is wrong, and may be that of one class alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.adaptation.alone import generators
from medfocus_pipeline.adaptation.protocol import Adapted, Task, check
from medfocus_pipeline.config.adaptation import LabelShiftConfig
from medfocus_pipeline.heads.descent import Matrix
from medfocus_pipeline.heads.linear import LinearHead
from medfocus_pipeline.heads.many import fit_all
from medfocus_pipeline.types import IntArray

TOLERANCE, MAX_ITERATIONS = 1e-7, 10_000
"""Of the shares in one step; EM creeps where a share goes to 0, and stops there in the end."""


@dataclass(frozen=True, slots=True)
class LabelShift:
    """EM on what source-only says of the target; see the module."""

    config: LabelShiftConfig

    def adapt(self, task: Task, subsets: Sequence[IntArray], seeds: Sequence[int]) -> Adapted:
        """One logistic regression and one estimate of the shares a seed."""
        check(task)
        trains = [task.train(rows) for rows in subsets]
        fitted = fit_all(LinearHead(self.config.head), trains, generators(seeds))
        found, choices = [], []
        for train, one in zip(trains, fitted, strict=True):
            known = np.bincount(train.labels, minlength=task.classes) / len(train.labels)
            shares = estimated_shares(one.predict_proba(task.target), known)
            found.append(corrected(one.predict_proba(task.test[:, None]), known, shares))
            named = {f"share {place}": float(share) for place, share in enumerate(shares)}
            choices.append({**one.chosen, **named})
        return Adapted(np.stack(found).astype(np.float32), tuple(choices))


def estimated_shares(probabilities: Matrix, known: Matrix) -> Matrix:
    """Class shares of unlabelled images, ``(K,) float64``, sum 1.

    Args:
        probabilities: ``(m, K) float64``, what the classifier says of them.
        known: ``(K,) float64``, shares that it was fitted on; 0 for a class that it does not know.
    """
    shares = known
    for _ in range(MAX_ITERATIONS):
        after: Matrix = corrected(probabilities, known, shares).mean(axis=0)
        if np.abs(after - shares).max() < TOLERANCE:
            return after
        shares = after
    return shares


def corrected(probabilities: Matrix, known: Matrix, shares: Matrix) -> Matrix:
    """Probabilities ``(m, K)`` for other class shares, rows sum to 1.

    Args:
        probabilities: ``(m, K) float64``.
        known: ``(K,)``, shares that they were fitted on.
        shares: ``(K,)``, those that are true.
    """
    ratios = np.divide(shares, known, out=np.zeros_like(known), where=known > 0)
    weighted = np.maximum(probabilities, np.finfo(np.float64).tiny) * ratios
    rows: Matrix = weighted / weighted.sum(axis=1, keepdims=True)
    return rows
