"""The driver of studies: wall time of 1, 2 and 4 workers against the ideal, its overhead per trial, and what pruning saves."""

import contextlib
import dataclasses
import io
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks._section import Bars, Section
from hpo.slots import WorkerSlot
from hpo.spec import StudySpec
from hpo.study import launch
from hpo.trials import make_pruner

TRIALS, SECONDS = 24, 2.0
SHORT_WORKERS, SHORT_TRIALS, SHORT_SECONDS = 8, 100, 0.3
SMOKE_TRIALS, SMOKE_SECONDS = 3, 0.2
WORKERS = (1, 2, 4)
EPOCHS, CURVES, ORDERS = 54, 48, 20


def nap(params: dict[str, Any], report: Any) -> float:
    """In place of a training: it needs no core, so that only the driver's own time adds to it."""
    time.sleep(params["seconds"])
    return params["x"]


def run(smoke: bool = False, compiled: bool = False) -> Section:
    """The section of the results."""
    trials, seconds = (SMOKE_TRIALS, SMOKE_SECONDS) if smoke else (TRIALS, SECONDS)
    rows = [scaling(workers, trials, seconds) for workers in (WORKERS[:2] if smoke else WORKERS)]
    short = (2, 4, 0.1) if smoke else (SHORT_WORKERS, SHORT_TRIALS, SHORT_SECONDS)
    brief = scaling(*short)
    orders = 2 if smoke else ORDERS
    pruned = [pruning(name, orders) for name in ("none", "median", "asha", "hyperband")]
    tables = [_scaling_table(rows, trials, seconds), _scaling_table([brief], *short[1:])]
    text = "\n\n".join([*tables, _pruning_table(pruned, orders)])
    data = {
        "scaling": [dataclasses.asdict(row) for row in rows],
        "short": dataclasses.asdict(brief),
        "pruning": [dataclasses.asdict(p) for p in pruned],
    }
    over = {f"{row.workers} workers": [row.trials / row.ideal] for row in rows}
    return Section(
        text, data, {"scaling": Bars("Wall time of a study", "times the ideal", over, 1.0)}
    )


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Seconds of a study: from its first trial's start to its last one's end, and of the whole command."""

    workers: int
    ideal: float
    trials: float
    command: float
    overhead: float  # between two trials of one worker, median


def scaling(workers: int, trials: int, seconds: float) -> Scaling:
    """Run a study of ``trials`` naps on that many workers, as processes with a journal file."""
    space = {"x": {"float": [0.0, 1.0]}, "seconds": {"float": [seconds, seconds]}}
    with tempfile.TemporaryDirectory() as folder:
        spec = _spec(
            runs=f"{folder}/runs",
            trials=trials,
            space=space,
            function="benchmarks.hpo:nap",
            pruner="none",
        )
        places = [WorkerSlot(number, {"OMP_NUM_THREADS": "1"}) for number in range(workers)]
        start = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()):
            study = launch(spec, str(Path(folder) / "study.journal"), "scaling", places)
        command = time.monotonic() - start
        spans = [(trial.user_attrs["worker"], *_span(trial)) for trial in study.get_trials()]
    whole = max(end for *_, end in spans) - min(begin for _, begin, _ in spans)
    gaps = []
    for worker in {worker for worker, *_ in spans}:
        own = sorted((begin, end) for name, begin, end in spans if name == worker)
        gaps += [after - before - seconds for (before, _), (after, _) in pairwise(own)]
    return Scaling(workers, trials * seconds / workers, whole, command, float(np.median(gaps)))


def _span(trial: optuna.trial.FrozenTrial) -> tuple[float, float]:
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    return trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()


def _spec(**settings: Any) -> StudySpec:
    content: dict[str, Any] = {"recipe": "", "digest": "", "args": [], "runs": "", "trials": 1}
    return StudySpec(**content | settings)


def curves(seed: int = 0) -> np.ndarray:
    """(CURVES, EPOCHS) validation scores: each rises to a level of its own at a speed of its own, with noise; so they cross."""
    random = np.random.default_rng(seed)
    level = 0.9 - 0.4 * random.beta(1, 2, (CURVES, 1))
    speed = np.exp(random.uniform(np.log(2), np.log(12), (CURVES, 1)))
    rise = 1 - np.exp(-np.arange(1, EPOCHS + 1) / speed)
    return level * rise + random.normal(0, 0.006, (CURVES, EPOCHS))


@dataclasses.dataclass(frozen=True)
class Pruning:
    """Means over the orders: share of all epochs that were run, and the best score found less the best there is."""

    name: str
    epochs: float
    regret: float
    worst: float


def pruning(name: str, orders: int) -> Pruning:
    """The recorded curves as trials in several orders, one after the other."""
    table = curves()
    shares, regrets = [], []
    for order in range(orders):
        spec = _spec(pruner=name, base={"trainer.max_epochs": EPOCHS})
        study = optuna.create_study(
            study_name=str(order), direction="maximize", pruner=make_pruner(spec)
        )
        run, best = 0, 0.0
        for index in np.random.default_rng(order).permutation(CURVES):
            epochs = _follow(study, table[index])
            run, best = run + epochs, max(best, table[index, :epochs].max())
        shares.append(run / table.size)
        regrets.append(table.max() - best)
    return Pruning(name, float(np.mean(shares)), float(np.mean(regrets)), float(np.max(regrets)))


def _follow(study: optuna.Study, curve: np.ndarray) -> int:
    """Epochs until the pruner stops this trial."""
    trial = study.ask()
    for epoch, value in enumerate(curve):
        trial.report(float(value), epoch)
        if trial.should_prune() and epoch + 1 < len(curve):
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return epoch + 1
    study.tell(trial, float(curve.max()))
    return len(curve)


def _scaling_table(rows: list[Scaling], trials: int, seconds: float) -> str:
    lines = [
        f"Studies of {trials} trials that sleep {seconds:g} s each, a journal file as storage. Overhead: of the driver between two "
        "trials of one worker, median (process, storage, sampling; a training adds nothing but itself).",
        "",
        "| workers | ideal s | first start to last end s | over ideal | whole command s | overhead per trial s |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        over = f"{100 * (r.trials / r.ideal - 1):+.1f} %"
        lines.append(
            f"| {r.workers} | {r.ideal:.1f} | {r.trials:.1f} | {over} | {r.command:.1f} | {r.overhead:.2f} |"
        )
    return "\n".join(lines)


def _pruning_table(rows: list[Pruning], orders: int) -> str:
    lines = [
        f"Pruning on {CURVES} synthetic curves of {EPOCHS} epochs, in {orders} orders, one trial after the other. Regret: the best "
        "score of all curves less the best that was found.",
        "",
        "| pruner | epochs run | mean regret | largest regret |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {r.name} | {100 * r.epochs:.0f} % | {r.regret:.4f} | {r.worst:.4f} |" for r in rows
    ]
    return "\n".join(lines)
