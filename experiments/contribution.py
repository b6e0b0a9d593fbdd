"""Checks of results that somebody contributes: others must be able to make them again, and they say
what must be known of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.facts import RecordedResult, RunFacts
from experiments.runs import results_of
from lightning_seg.data.splits import load_protocol, protocol_names
from lightning_seg.errors import InputError
from lightning_seg.evaluation.summary import Summary
from lightning_seg.runs.scored_weights import check_scores
from lightning_seg.tables import count_text

REQUIREMENTS = (
    "the per-image table as `test` wrote it, of a whole test split",
    "a protocol of the project, by its digest",
    "a recipe of the project, so that the configuration follows from it and from what departs",
    "a commit without changes, hardware and minutes",
    "a training that went to its end and was not resumed under other settings",
    "the sha256 of encoder weights, where there are any",
    "every seed of the training that was tested in the same folder of runs, not the best",
)  # that a protocol leaks or that data are synthetic follows from their names and is said by itself


def check_contribution(
    results: Sequence[RecordedResult], untested: Sequence[Path], trust_code: bool = False
) -> None:
    """Print what each result lacks; InputError where any lacks something.

    Args:
        untested: runs that were handed in without a test of a whole split.
    """
    faults = [f"{run}: its best checkpoint was not tested on a whole split" for run in untested]
    for result in results:
        faults += [f"{result.file.parent}: {fault}" for fault in faults_of(result)]
    faults += _seeds_held_back(results, trust_code)
    for fault in faults:
        print(f"not accepted: {fault}")
    if faults:
        raise InputError(
            f"{count_text(len(faults), 'fault')} in what is contributed, so nothing was recorded; "
            "mend what is named above and give the same command again."
        )


def faults_of(result: RecordedResult) -> Iterator[str]:
    """Sentences on all that a result lacks of `REQUIREMENTS`."""
    facts = result.facts
    yield from _table_faults(result)
    yield from _protocol_faults(facts)
    if not facts.recipe:
        yield "its recipe is none of experiments/*.yaml; add the recipe in the same pull request"
    for name in ("commit", "hardware", "minutes", "looks"):
        if getattr(facts, name) in ("", None):
            yield f"{name} is not known; train and test it with this version"
    if "-dirty" in facts.commit:
        yield f"its code differs from the commit {facts.commit}; train it from a committed state"
    if facts.ending:
        yield f"{facts.ending}; train it to its end"
    if facts.doubts:
        yield facts.doubts
    if facts.pretrained and not facts.encoder_weights.get("sha256"):
        yield "the sha256 of its encoder weights is not known"


def _table_faults(result: RecordedResult) -> Iterator[str]:
    try:
        check_scores(Summary.read(result.file.parent), result.file.parent)
    except InputError as error:
        yield str(error)


def _protocol_faults(facts: RunFacts) -> Iterator[str]:
    known = {load_protocol(name).digest for name in protocol_names()}
    if facts.protocol_digest not in known:
        yield (
            f"the protocol {facts.protocol} ({facts.protocol_digest}) is none of the project; add its "
            "file to lightning_seg/data/protocols in the same pull request"
        )


def _seeds_held_back(results: Sequence[RecordedResult], trust_code: bool) -> Iterator[str]:
    """Other tested seeds of the same trainings in the same folders of runs."""
    given = {result.facts.place for result in results}
    trainings = {(result.facts.place.parent, result.facts.training) for result in results}
    homes = sorted({_home_of_runs(result.file) for result in results})
    for config in (file for home in homes for file in sorted(home.glob("*/version_*/config.yaml"))):
        for other in results_of(config.parent, trust_code=trust_code):
            place = other.facts.place
            if (place.parent, other.facts.training) in trainings and place not in given:
                yield (
                    f"{config.parent} is another seed ({other.facts.seed}) of the same training and was "
                    "not handed in; the better of several is no result"
                )


def _home_of_runs(table: Path) -> Path:
    """``runs`` of ``runs/<name>/version_N/<split>/<checkpoint>/scores.csv``."""
    return table.parents[4]
