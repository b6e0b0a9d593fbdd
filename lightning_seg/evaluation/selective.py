"""Which cases to look at first, and what the order is worth that a confidence gives them.

A risk-coverage curve keeps the most confident share of the cases and says their mean risk; AURC is
the area below it (Geifman and El-Yaniv, 2017). In random order it is the mean risk of all; the
oracle keeps the best first.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_seg.evaluation.conventions import positions
from lightning_seg.evaluation.intervals import draw_weights

Values = NDArray[np.float64]
Interval = tuple[float, float]
FEWEST = 10  # cases, below which a curve says nothing
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class RiskCoverage:
    """What an order of cases is worth, each with its 95 % interval over cases, or groups of them.

    Attributes:
        coverage, risk: (N,) the kept share of the cases, most confident first, and its mean risk.
        aurc: the area below that curve; ``random``: of random order, which is the mean risk.
        oracle: of the best order there is.
        gain: the share of the way from random order to the oracle.
    """

    coverage: Values
    risk: Values
    aurc: float
    aurc_interval: Interval
    random: float
    random_interval: Interval
    oracle: float
    gain: float
    gain_interval: Interval


def risk_coverage(
    confidence: Values,
    risk: Values,
    groups: tuple[str, ...] = (),
    resamples: int = 2000,
    seed: int = 0,
) -> RiskCoverage | None:
    """The curve of N cases; None of fewer than `FEWEST`.

    Args:
        confidence: (N,) the most confident are kept first; ties share their mean risk.
        risk: (N,) such as one minus the Dice.
        groups: (N,) of the cases, which are drawn together; each its own where none are given.
    """
    if len(risk) < FEWEST:
        return None
    members = positions(groups or tuple(map(str, range(len(risk)))))
    units = int(members.max()) + 1
    by_unit = draw_weights(units, resamples, seed)
    weights = np.concatenate([part[:, members] for part in by_unit])
    drawn = [_areas(confidence, risk, weights), _areas(-risk, risk, weights)]
    means = weights @ risk / weights.sum(1)
    once = np.ones((1, len(risk)))
    aurc, oracle = (float(_areas(order, risk, once)[0]) for order in (confidence, -risk))
    mean = float(risk.mean())
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(risk) + 1)
    return RiskCoverage(
        counts / len(risk),
        _ties_averaged(confidence, risk)[order].cumsum() / counts,
        aurc,
        _interval(drawn[0]),
        mean,
        _interval(means),
        oracle,
        float(_gains(mean, aurc, oracle)),
        _interval(_gains(means, *drawn)),
    )


def _areas(confidence: Values, risk: Values, weights: Values) -> Values:
    """(R,) AURC where each case counts as often as ``weights`` (R, N) say."""
    order = np.argsort(-confidence, kind="stable")
    weighted = weights[:, order]
    kept = weighted.cumsum(1)
    lost = (weighted * _ties_averaged(confidence, risk)[order]).cumsum(1)
    means = lost / np.maximum(kept, 1e-12)
    areas: Values = (weighted * means).sum(1) / kept[:, -1]
    return areas


def _ties_averaged(confidence: Values, risk: Values) -> Values:
    """The mean risk of the cases that are as confident as each."""
    _, same = np.unique(confidence, return_inverse=True)
    sums, counts = np.bincount(same, risk), np.bincount(same)
    return np.asarray((sums / counts)[same], np.float64)


def _gains(random: Values | float, aurc: Values | float, oracle: Values | float) -> Values | float:
    possible = np.maximum(np.subtract(random, oracle), 1e-12)
    found: Values = np.subtract(random, aurc) / possible
    return found if found.ndim else float(found)


def _interval(drawn: Values | float) -> Interval:
    low, high = np.quantile(drawn, _QUANTILES)
    return float(low), float(high)
