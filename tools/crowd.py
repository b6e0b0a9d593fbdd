"""Many workers on one study: counts lost and doubled trials, and what the driver adds to each.

    python tools/crowd.py [--workers 16] [--trials 1000] [--on journal postgresql]

The trials do nothing but report five steps, so that all time is the driver's: its processes, its
storage, its sampling. Each leaves a line in a file of its own accord, against which the storage is
held. PostgreSQL is started for this, where it is installed.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "hpo")]

from driving import Driven, Postgres, postgres_binaries  # type: ignore[import-not-found]  # noqa: E402

from hpo.queue import FINISHED  # noqa: E402
from hpo.storage import resolve  # noqa: E402

PARTS = 10  # of the study, in the order in which trials ended


@dataclass(frozen=True)
class CrowdedStudy:
    """What a study of many workers came to.

    Attributes:
        lost: slots without a result.
        doubled: results or trainings beyond one for a slot.
        failed: attempts that had to be made again.
        seconds: of the whole command.
        parts: seconds between two ends of trials, in each tenth of the study.
    """

    storage: str
    trials: int
    workers: int
    lost: int
    doubled: int
    failed: int
    seconds: float
    parts: list[float]

    @property
    def exponent(self) -> float:
        """e of the best ``seconds = c * trials ** e``, without the first tenth, which holds the start."""
        place = np.arange(1, len(self.parts)) + 0.5
        return float(np.polyfit(np.log(place), np.log(self.parts[1:]), 1)[0])


def crowded_study(storage: str, workers: int, trials: int) -> CrowdedStudy:
    """Run the study in a folder of its own."""
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)  # the server runs as another user
        where = None
        if storage == "postgresql":
            (folder / "server").mkdir()
            server = Postgres(folder / "server")
            server.start()
            held.callback(server.stop)
            where = resolve(server.url, folder, "s")
        driven = Driven(folder, where)
        began = time.monotonic()
        driven.finish(trials, None, nap=0, workers=workers)
        seconds = time.monotonic() - began
        return _counted(driven, storage, workers, trials, seconds)


def _counted(driven: Any, storage: str, workers: int, trials: int, seconds: float) -> CrowdedStudy:
    ended = [trial for trial in driven.trials() if trial.state in FINISHED]
    results = Counter(trial.user_attrs["slot"] for trial in ended)
    trained = Counter(driven.ends())
    told = Counter(repr(trial.params) for trial in ended)
    clock = sorted(trial.datetime_complete.timestamp() for trial in ended)
    parts = [float(np.mean(np.diff(part))) for part in np.array_split(clock, PARTS)]
    return CrowdedStudy(
        storage,
        trials,
        workers,
        lost=trials - len(results) + (told - trained).total(),
        doubled=results.total() - len(results) + (trained - told).total(),
        failed=len(driven.trials("FAIL")),
        seconds=seconds,
        parts=parts,
    )


def crowd_table(studies: list[CrowdedStudy]) -> str:
    """The table in Markdown; the driver's time of a trial is that of one worker, all of them at work."""
    lines = [
        "| storage | workers | trials | lost | doubled | attempts made again | whole command s "
        "| seconds between two ends, by tenth of the study | growth |",
        "|---|---:|---:|---:|---:|---:|---:|---|---:|",
    ]
    for each in studies:
        parts = ", ".join(f"{part:.2f}" for part in each.parts)
        counts = f"{each.lost} | {each.doubled} | {each.failed} | {each.seconds:.0f}"
        lines.append(
            f"| {each.storage} | {each.workers} | {each.trials:,} | {counts} | {parts} "
            f"| n^{each.exponent:.2f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the studies and print their table; 1 where a trial was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--trials", type=int, default=1000)
    kinds = ("journal", "postgresql")
    parser.add_argument("--on", nargs="+", choices=kinds, default=list(kinds))
    options = parser.parse_args()
    if "postgresql" in options.on and postgres_binaries() is None:
        parser.error(
            "there is no PostgreSQL on this machine; apt-get install postgresql, or --on journal"
        )
    studies = []
    for storage in options.on:
        studies.append(crowded_study(storage, options.workers, options.trials))
        print(crowd_table(studies[-1:]), flush=True)
    print(f"\n{crowd_table(studies)}\n\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    return int(any(study.lost or study.doubled for study in studies))


if __name__ == "__main__":
    sys.exit(main())
