"""A list of full-length trainings, worked through by priority in the background of other work.

All that is known of a campaign lies in the folders of its runs: which training has ended, which
epoch another has reached, what was tested. So the same command goes on after whatever ended it,
also on another machine that finds the folders again.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from experiments import record
from experiments.facts import RECIPES, slug
from experiments.fits import PASSES, RATE, side_of, training_macs
from hpo.recipe import dry_run
from hpo.space import flags
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError, unknown
from lightning_seg.files import real_path
from lightning_seg.files.documents import read_yaml
from lightning_seg.files.locks import locked
from lightning_seg.files.steps import run_step
from lightning_seg.files.trust import check_code
from lightning_seg.models.frame.listing import count
from lightning_seg.options import shell_command
from lightning_seg.runs import Run
from lightning_seg.tables import Table

_KEYS = {"name": str, "recipe": str, "seeds": list, "overrides": dict}


@dataclass(frozen=True)
class CampaignFit:
    """One training of a campaign: a recipe with changes and a seed, in a folder of its own.

    Attributes:
        group: the folder of the campaign's runs, below that of all runs.
        config: dotted key -> value of everything.
    """

    name: str
    recipe: Path
    seed: int
    args: tuple[str, ...]
    runs: Path
    group: str
    config: dict[str, Any] = field(compare=False)

    @property
    def run_name(self) -> str:
        return f"{self.group}/{self.name}-seed{self.seed}"

    @property
    def epochs(self) -> int:
        return int(self.config["trainer.max_epochs"])

    @property
    def run(self) -> Run | None:
        """The part of it that has been done; None where nothing was."""
        with suppress(InputError):
            return Run.open(self.runs / self.run_name, self.runs)
        return None

    @property
    def done(self) -> int:
        """Epochs that are behind it."""
        run = self.run
        return run.ending.epochs_done if run is not None and run.last is not None else 0

    @property
    def trained(self) -> bool:
        run = self.run
        return run is not None and run.ending.complete and run.best is not None

    @property
    def tested(self) -> bool:
        run = self.run
        return self.trained and run is not None and bool(run.score_folders("test"))

    @property
    def state(self) -> str:
        """``done``, ``to be tested``, ``12 of 150 epochs`` or ``not begun``."""
        if self.tested:
            return "done"
        if self.trained:
            return "to be tested"
        return f"{self.done} of {self.epochs} epochs" if self.done else "not begun"

    def command(self) -> list[str]:
        """The arguments of the next step."""
        where = ["--name", self.run_name, "--runs", str(self.runs)]
        if self.trained:
            return ["test", "--ckpt_path", "best", *where]
        run = self.run
        again = ["--ckpt_path", "last"] if run is not None and run.last is not None else []
        return ["fit", "-c", str(self.recipe), *self.args, *where, *again]


def read_campaign(path: Path, runs: Path) -> list[CampaignFit]:
    """The trainings of a campaign's file, by priority; each is tried on the command line.

    Raises:
        InputError: the file is none, or a training in it does not work.
    """
    if not path.is_file():
        raise InputError(
            f"there is no campaign {str(path)!r}; give the path of one, such as experiments/campaigns/papers.yaml."
        )
    content = read_yaml(path)
    check_code(content, path, trust_code=False)
    entries = content.get("fits") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries or set(content) != {"fits"}:
        raise InputError(f"{path} is not a campaign; it needs fits:, a list of {{name, recipe}}.")
    found = [fit for entry in entries for fit in _fits_of(entry, path, real_path(runs))]
    names = [fit.run_name for fit in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} holds {twice} twice; give each fit a name of its own.")
    return found


def _fits_of(entry: Any, path: Path, runs: Path) -> Iterator[CampaignFit]:
    if not isinstance(entry, dict) or not {"name", "recipe"} <= set(entry):
        raise InputError(f"{path} holds the fit {entry!r}; give it as {{name, recipe, seeds}}.")
    for key, value in entry.items():
        if key not in _KEYS:
            raise unknown("key of a fit", key, list(_KEYS))
        if not isinstance(value, _KEYS[key]):
            kind = _KEYS[key].__name__
            raise InputError(f"{path} holds {key}: {value!r} in {entry['name']}; give a {kind}.")
    beside = path.parent / entry["recipe"]  # a file of one's own, or the name of one of ours
    recipe = beside if beside.is_file() else RECIPES / f"{entry['recipe']}.yaml"
    if not recipe.is_file():
        raise unknown("recipe", entry["recipe"], [each.stem for each in RECIPES.glob("*.yaml")])
    changes = flags(entry.get("overrides", {}))
    try:
        config = dry_run(str(recipe), changes)
    except InputError as error:
        raise InputError(f"{entry['name']} of {path} does not work: {error}") from error
    for seed in entry.get("seeds", [config["seed_everything"]]):
        args = ("--seed_everything", str(seed), *changes)
        name = slug(entry["name"])
        yield CampaignFit(name, recipe, int(seed), args, runs, slug(path.stem), config)


# --- what is left, and when it would end ---


@dataclass
class Forecast:
    """The duration of trainings here: by their own epochs, or by the rate of those that ran before.

    Attributes:
        rate: multiply-adds per second of training.
    """

    rate: float = RATE
    macs: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, fits: Sequence[CampaignFit]) -> "Forecast":
        found = cls()
        done, minutes = 0.0, 0.0
        for fit in fits:
            spent = _minutes(fit)
            if fit.done and spent:
                done += found.macs_of(fit) * fit.done / fit.epochs
                minutes += spent
        found.rate = done / minutes / 60 if done else RATE
        return found

    def macs_of(self, fit: CampaignFit) -> float:
        """The multiply-adds of the whole training; 0 where its data are not at hand."""
        key = f"{fit.recipe.stem} {fit.args[2:]}"
        if key not in self.macs:
            self.macs[key] = _macs(fit.config)
        return self.macs[key]

    def hours_left(self, fit: CampaignFit) -> float | None:
        """The hours of what is left of a training, at most: some stop early. None where it is not
        known."""
        left = 0 if fit.trained else fit.epochs - fit.done
        spent = _minutes(fit)
        if left == 0:
            return 0.0
        if fit.done and spent:
            return spent / fit.done * left / 60
        macs = self.macs_of(fit)
        return macs * left / fit.epochs / self.rate / 3600 if macs else None


def _minutes(fit: CampaignFit) -> float:
    run = fit.run
    sittings = [] if run is None else run.sittings
    return float(sum(sitting.get("minutes", 0) for sitting in sittings))


def _macs(config: dict[str, Any]) -> float:
    model, data = config["model"], config["data"]
    options = (model.get("options") or {}) | {"encoder": model.get("encoder")}
    try:
        source = SegmentationDataModule(
            dataset=data["dataset"],
            protocol=data["protocol"],
            root=data.get("root"),
            dataset_options=data.get("dataset_options"),
        )
        _ = source.source
        images = len(source.ids("train"))
    except InputError:
        return 0.0
    _, macs = count(model["architecture"], side_of(config), **options)
    return training_macs({"data": data, "trainer": config["trainer"]}, images, macs)


def show_campaign(fits: Sequence[CampaignFit]) -> None:
    """Print each training with its state, what is left of it and when it would end."""
    forecast = Forecast.of(fits)
    rows, clock, known = [], datetime.now(), True
    for fit in fits:
        hours = forecast.hours_left(fit)
        known = known and hours is not None
        clock += timedelta(hours=hours or 0.0)
        end = "-" if fit.tested or not known else f"{clock:%a %d %b %H:%M}"
        left = "-" if hours is None else f"{hours:.1f}"
        rows.append((f"{fit.name}, seed {fit.seed}", fit.recipe.stem, fit.state, left, end))
    waiting = sum(not fit.tested for fit in fits)
    table = Table(
        ("fit", "recipe", "state", "hours left", "ends at"),
        rows,
        title=f"campaign: {waiting} of {len(fits)} fits are left",
        caption=f"hours at most (some stop early), by their own epochs, else at {forecast.rate / 1e9:.1f} "
        f"billion multiply-adds a second, {PASSES} passes an image; - where data are not at hand",
        left=("fit", "recipe", "state"),
    )
    table.show()


# --- the work ---


@dataclass(frozen=True)
class Means:
    """The share of a machine that a campaign may use: processor threads, and how far it gives way
    to other work (0 to 19)."""

    threads: int
    niceness: int = 10


def run_campaign(
    fits: Sequence[CampaignFit], results: Path, limit_minutes: float | None, means: Means
) -> None:
    """Work through the trainings until the minutes are over; each is tested and recorded once it is
    complete.

    Raises:
        InputError: another campaign is at work on the same folder, or a training failed.
    """
    show_campaign(fits)
    end = None if limit_minutes is None else time.monotonic() + 60 * limit_minutes
    if end is not None and limit_minutes == 0:
        return
    failed: list[str] = []
    with _alone(fits[0].runs / fits[0].group) as lock:
        for fit in fits:
            while not fit.tested and not _is_over(end):
                state = fit.state
                code = _step(fit, means, end, lock)
                if code and not _is_over(end):
                    failed.append(f"{fit.run_name} ended with exit code {code}")
                    break
                if not code and fit.state == state:
                    failed.append(f"{fit.run_name} did not go on from {state!r}")
                    break
            if fit.tested:
                _record(fit, results)
            if _is_over(end):
                break
    show_campaign(fits)
    if failed:
        raise InputError(f"{'; '.join(failed)}; the sentences above say why.")


def _is_over(end: float | None) -> bool:
    return end is not None and time.monotonic() >= end


def _step(fit: CampaignFit, means: Means, end: float | None, lock: Path) -> int:
    """Train or test in a process of its own, which ends with this one and at ``end``; its exit
    code."""
    print(f"{datetime.now():%H:%M}  {shell_command('lightning-seg', *fit.command())}", flush=True)
    threads = {name: str(means.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    seconds = None if end is None else max(0.0, end - time.monotonic())
    # a lock of its own: should this process be killed, no second campaign starts beside it
    args = [str(means.niceness), str(lock), *fit.command()]
    return run_step(args, "experiments.campaign_step", threads, seconds)


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """Hold the campaign's lock; InputError where another process has it. Gives the file that each
    training locks."""
    folder.mkdir(parents=True, exist_ok=True)
    step = folder / "step.lock"
    try:
        with locked(folder / "campaign.lock", wait=False):
            # of a campaign that was killed, its last training may still be there
            with locked(step, wait=False):
                pass
            yield step
    except BlockingIOError as error:
        raise InputError(
            f"a campaign is at work in {str(folder)!r} already; wait for it, or give --runs another folder."
        ) from error


def _record(fit: CampaignFit, results: Path) -> None:
    """Keep the result; one that is refused stays in its folder, and the reason is said."""
    try:
        record.main([str(fit.runs / fit.run_name), "--results", str(results)])
    except InputError as error:
        print(f"not recorded: {error}", file=sys.stderr)
