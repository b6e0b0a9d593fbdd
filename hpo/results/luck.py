"""Whether a search found more than luck: its best score so far over the epochs spent, beside those
of controls such as random search.

Trials of a random search could have come in any order, so that they are drawn anew, with
replacement, until the epochs are spent (Dodge et al., 2019); those of a search that learns from
earlier ones, or stops some of them, are drawn anew too and keep their order. What is resampled are
the trials of one search: how another one of a learning sampler would have gone is not known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from hpo.conditions import conditions_of
from hpo.results.outcome import Outcome
from hpo.trial_messages import DATA
from lightning_seg.errors import InputError
from lightning_seg.plots import Axis, Plot
from lightning_seg.tables import Table, count_text, interval_text

RESAMPLES = 1000
SHARES = (0.25, 0.5, 1.0)  # of the epochs that all searches spent, which the table shows
BARS = 8  # intervals of a curve
COLOURS = ("s1", "s2", "s3")
ALIKE = ("digest", "args", "space", "objective")  # what a control shares with its study
Curve = NDArray[np.float64]


@dataclass(frozen=True)
class SearchCourse:
    """The trials of a search as they spent epochs.

    Attributes:
        given: trials that were not searched for, such as the recipe itself; they come first.
        drawn: those that the sampler drew, in their order.
            Of both: the objective after each epoch.
        learns: whether a trial depends on those before it.
        sign: 1 where a high objective is good, else -1.
    """

    name: str
    given: list[Curve]
    drawn: list[Curve]
    learns: bool
    sign: int

    @property
    def epochs(self) -> int:
        """All that were spent."""
        return sum(map(len, (*self.given, *self.drawn)))

    def found(self, budget: int) -> Curve:
        """(budget,) the best objective after each epoch: of a search that learns as it was, of
        another the mean over orders."""
        if self.learns:
            return self.best_so_far([*self.given, *self.drawn], budget)
        return self.resampled(budget).mean(0)

    def resampled(self, budget: int, resamples: int = RESAMPLES, seed: int = 0) -> Curve:
        """(resamples, budget) the best objective after each epoch, of trials drawn anew."""
        random = np.random.default_rng(seed)
        rows = [self._draw(random, budget) for _ in range(resamples)]
        return np.stack([self.best_so_far([*self.given, *row], budget) for row in rows])

    def _draw(self, random: np.random.Generator, budget: int) -> list[Curve]:
        if not self.drawn:
            return []
        if self.learns:
            places = np.sort(random.integers(len(self.drawn), size=len(self.drawn)))
            return [self.drawn[place] for place in places]
        # so many that the epochs are spent, however short the trials
        places = random.integers(len(self.drawn), size=budget)
        return [self.drawn[place] for place in places]

    def best_so_far(self, trials: Sequence[Curve], budget: int) -> Curve:
        """(budget,) the best objective of all epochs up to each; the last stays where trials end."""
        values = self.sign * np.concatenate(list(trials))[:budget]
        best = np.maximum.accumulate(values)
        return self.sign * np.pad(best, (0, budget - len(best)), mode="edge")


def course_of(outcome: Outcome) -> SearchCourse:
    """The course of a study.

    Raises:
        InputError: its trials are not of one training each, or none has ended.
    """
    spec, name = outcome.spec, outcome.study.study_name
    if spec.minimize or spec.replicas:
        raise InputError(
            f"study {name!r} has two objectives, or several trainings in each trial; whether it "
            "beat luck is shown of studies of one objective and one training."
        )
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    trials = [t for t in outcome.trials.values() if t.state in ended and t.intermediate_values]
    trials.sort(key=lambda trial: trial.number)
    if not trials:
        raise InputError(f"no trial of study {name!r} has ended; let `hpo run` go on first.")
    given = [t for t in trials if t.user_attrs["slot"] < len(spec.start)]
    return SearchCourse(
        name,
        [_values(trial) for trial in given],
        [_values(trial) for trial in trials if trial not in given],
        spec.sampler != "random" or spec.pruner != "none",
        1 if spec.directions[0] == "maximize" else -1,
    )


def _values(trial: FrozenTrial) -> Curve:
    return np.array([value for _, value in sorted(trial.intermediate_values.items())])


def check_control(study: Outcome, control: Outcome) -> None:
    """InputError where a study is no control of another, since it searched something else."""
    for key in ALIKE:
        if getattr(study.spec, key) != getattr(control.spec, key):
            word = {"digest": "recipe", "args": "overrides"}.get(key, key)
            raise InputError(
                f"study {control.study.study_name!r} is no control of {study.study.study_name!r}: "
                f"it has another {word}; run it with the same one."
            )
    _check_conditions(study, control)


def _check_conditions(study: Outcome, control: Outcome) -> None:
    """InputError where no trial of the one saw the data, or the weights, of the other."""
    ours, theirs = (conditions_of(each.trials.values()) for each in (study, control))
    for label in ours.keys() & theirs.keys():
        if ours[label].isdisjoint(theirs[label]):
            raise InputError(
                f"study {control.study.study_name!r} is no control of {study.study.study_name!r}: "
                f"its trials had other {'data' if label.startswith(DATA) else f'{label}'}; run it "
                "with the same."
            )


def show_luck(searches: Sequence[SearchCourse], objective: str) -> None:
    """Print the best scores at equal epochs, and what the first search is worth beside others."""
    budget = min(search.epochs for search in searches)
    rows = [row for search in searches for row in _rows(search, budget)]
    Table(
        ("study", "trials", "epochs", f"best {objective}", "95 %"),
        rows,
        title="the best score at equal epochs",
        caption="95 % bootstrap intervals over trials; of a search that learns from its trials or "
        "stops some they keep their order, and how another such search would go is not known",
        left=("study",),
    ).show()
    for line in verdicts(searches, budget):
        print(line)


def _rows(search: SearchCourse, budget: int) -> Iterator[tuple[str, ...]]:
    found, drawn = search.found(budget), search.resampled(budget)
    number = len(search.given) + len(search.drawn)
    for at in dict.fromkeys(max(1, round(share * budget)) for share in SHARES):
        low, high = np.quantile(drawn[:, at - 1], (0.025, 0.975))
        best = f"{found[at - 1]:.4f}", interval_text((float(low), float(high)), 4)
        yield search.name, str(number), str(at), *best


def verdicts(searches: Sequence[SearchCourse], budget: int) -> Iterator[str]:
    """What the first search is worth beside each other one, in words."""
    first, *controls = searches
    for place, control in enumerate(controls, 1):
        ours, theirs = first.resampled(budget), control.resampled(budget, seed=place)
        gain = first.sign * (ours[:, -1] - theirs[:, -1])
        low, high = (float(bound) for bound in np.quantile(gain, (0.025, 0.975)))
        mean = first.sign * (first.found(budget)[-1] - control.found(budget)[-1])
        word = "no surer than luck" if low <= 0 <= high else "better" if low > 0 else "worse"
        yield (
            f"{first.name} against {control.name} after {count_text(budget, 'epoch')}: "
            f"{mean:+.4f} (95 % {low:+.4f} to {high:+.4f}): {word}"
        )


def _bar_places(budget: int) -> list[int]:
    """The epochs at which intervals are drawn."""
    return sorted({max(1, round(share * budget)) for share in np.linspace(0, 0.97, BARS)})


def luck_plot(searches: Sequence[SearchCourse], objective: str) -> Plot:
    """The best score so far over the epochs spent, each search with its interval of 95 %."""
    budget = min(search.epochs for search in searches)
    epochs = np.arange(1, budget + 1, dtype=float).tolist()
    bands = [np.quantile(each.resampled(budget), (0.025, 0.975), axis=0) for each in searches]
    curves = [each.found(budget) for each in searches]
    shown = np.concatenate([np.ravel(values) for values in (*bands, *curves)])
    rim = 0.05 * (float(np.ptp(shown)) or 1)
    low, high = float(shown.min()) - rim, float(shown.max()) + rim
    named = zip(searches, curves, strict=True)
    alt = "Best so far at equal epochs: " + ", ".join(f"{s.name} {c[-1]:.4f}" for s, c in named)
    across = Axis("epochs spent", 0, budget, whole=True)
    plot = Plot(across, Axis(f"best {objective} so far", low, high), alt, 360, 640)
    for place, (search, curve, band) in enumerate(zip(searches, curves, bands, strict=True)):
        colour = COLOURS[place % len(COLOURS)]
        plot.line(epochs, curve.tolist(), colour)
        for at in _bar_places(budget):
            # beside each other where the curves meet
            beside = at + 0.008 * budget * (place - (len(searches) - 1) / 2)
            lowest, highest = band[:, at - 1].tolist()
            plot.segment((beside, lowest), (beside, highest), f"line {colour}")
            plot.dots([beside], [float(curve[at - 1])], colour)
        height = low + (0.06 + 0.07 * place) * (high - low)
        plot.text(0.62 * budget, height, search.name, f"label {colour}")
        plot.segment((0.55 * budget, height), (0.6 * budget, height), f"line {colour}")
    return plot
