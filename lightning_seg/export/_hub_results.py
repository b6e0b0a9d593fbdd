"""Entries of a model for a benchmark's leaderboard on the Hub: files in ``.eval_results/``.

https://huggingface.co/docs/hub/eval-results: the Hub takes entries of data sets that are registered
there as benchmarks, so their name has to be given.
"""

import re

import yaml

from lightning_seg.errors import InputError
from lightning_seg.evaluation.summary import Summary
from lightning_seg.reports.run_page._run import ScoredSplit
from lightning_seg.tables import count_text, interval_text

HUB_RESULTS = ".eval_results"
_BENCHMARK = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(?::(?P<task>\w[\w.-]*))?")


def check_benchmark(text: str) -> tuple[str, str]:
    """The data set and the task that ``owner/dataset:task`` names; InputError where it is neither
    that nor ``owner/dataset``, whose task is ``default``."""
    found = _BENCHMARK.fullmatch(text)
    if found is None:
        raise InputError(
            f"{text!r} is no benchmark of the Hub; give owner/dataset, or owner/dataset:task."
        )
    return found["id"], found["task"] or "default"


def benchmark_entry(scored: list[ScoredSplit], benchmark: str, where: str) -> str:
    """The test's Dice as mean over images, and over the classes, as YAML.

    Args:
        scored: the results of the card; the test of the training's own protocol comes first.
        where: ``user/name`` of the model, to whose card the entry leads.

    Raises:
        InputError: the test split was never scored.
    """
    dataset, task = check_benchmark(benchmark)
    tests = [result.summary for result in scored if result.summary.split == "test"]
    if not tests:
        raise InputError(
            f"--benchmark {benchmark} takes the score of a test, and this checkpoint was not "
            "tested on a whole split; run lightning-seg test first."
        )
    summary = tests[0]
    values = [scores["dice"]["image"].value for scores in summary.scores.values()]
    source = {"url": f"https://huggingface.co/{where}", "name": "Model card, with intervals"}
    entry = {
        "dataset": {"id": dataset, "task_id": task},
        "value": round(sum(values) / len(values), 4),
        "source": source,
        "notes": _notes(summary),
    }
    return yaml.safe_dump([entry], sort_keys=False, allow_unicode=True, width=1000)


def _notes(summary: Summary) -> str:
    """The images and the convention of the number, and all that must be said with it."""
    classes = ", ".join(
        f"{name} {interval_text(scores['dice']['image'].interval, word='to')}"
        for name, scores in summary.scores.items()
    )
    parts = [
        *summary.cautions(),
        f"Dice, mean over {count_text(summary.images, 'image')}; 95 %: {classes}",
        f"{summary.data_name}, protocol {summary.protocol} ({summary.protocol_digest}), split test",
        f"scored at {summary.scored_at} ({summary.size}), threshold {summary.threshold_text}",
    ]
    return "; ".join(parts)
