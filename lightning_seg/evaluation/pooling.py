"""Scores of a cross-validation: the tables of its folds as one, and what follows from it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import numpy as np

from lightning_seg.data.fingerprint import Fingerprint
from lightning_seg.errors import InputError
from lightning_seg.evaluation.findings import find_scores_of_table
from lightning_seg.evaluation.summary import FoldScores, Summary, VolumeSummary
from lightning_seg.evaluation.table import ScoreTable
from lightning_seg.evaluation.volumes import VolumeRow, summarize_volumes

CONVENTIONS = ("image", "pooled")  # under which each fold is kept by itself
_DIGITS = 12  # of a protocol's digest


def pool_tables(tables: Sequence[ScoreTable]) -> ScoreTable:
    """The tables of folds as one, by id: what each image scored when it was tested.

    Measures that a fold lacks are left out; columns that it lacks are empty.

    Raises:
        InputError: the folds have other classes, or test an image twice.
    """
    first = tables[0]
    if any(table.classes != first.classes for table in tables):
        raise InputError(
            "the folds were tested for other classes; train and test all of them anew, under "
            "another --name."
        )
    ids = [id for table in tables for id in table.ids]
    if len(set(ids)) < len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise InputError(f"image {twice!r} is tested in two folds; they do not belong together.")
    optional = ("fov_counts", "components", "calibration")
    arrays = {name: [getattr(table, name) for table in tables] for name in optional}
    measures = [name for name in first.measures if all(name in each.measures for each in tables)]
    columns = dict.fromkeys(name for table in tables for name in table.columns)
    whole = ScoreTable(
        tuple(ids),
        first.classes,
        np.concatenate([table.counts for table in tables]),
        tuple(group for table in tables for group in table.groups),
        {name: np.concatenate([table.measures[name] for table in tables]) for name in measures},
        columns={
            name: np.concatenate([_column(each, name) for each in tables]) for name in columns
        },
        **{
            name: np.concatenate(parts)
            for name, parts in arrays.items()
            if all(part is not None for part in parts)
        },
    )
    return whole.at(np.argsort(ids))


def _column(table: ScoreTable, name: str) -> np.ndarray:
    return np.asarray(table.columns.get(name, np.full(len(table.ids), "")), dtype=str)


def pooled_digest(digests: Sequence[str]) -> str:
    """12 hex digits that identify the folds of a cross-validation, given those of its protocols."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:_DIGITS]


def pool_summaries(
    summaries: Sequence[Summary],
    tables: Sequence[ScoreTable],
    protocol: str,
    planned: int,
    untested: int = 0,
    scans: Sequence[VolumeRow] = (),
) -> Summary:
    """The summary of the pooled table of folds that were tested alike.

    Maxima over thresholds and areas under ROC curves are not pooled: the probabilities of one
    network are no measure for those of another.

    Args:
        summaries, tables: of each tested fold, in their order.
        protocol: the name of the cross-validation's division, such as ``5-fold``.
        planned: how many folds there are; of fewer the summary says that it is partial.
        untested: images of the data set that no fold tests.
        scans: the rows of whole scans of all folds, where their images are slices.

    Raises:
        InputError: the folds were used or scored in unlike ways.
    """
    first = summaries[0]
    for other in summaries[1:]:
        for key, value in _how_scored(first).items():
            found = _how_scored(other)[key]
            if found != value:
                raise InputError(
                    f"the folds were tested in unlike ways ({key}: {value} and {found}); test all "
                    "of them alike."
                )
    digest = pooled_digest([summary.protocol_digest for summary in summaries])
    looks = [summary.looks for summary in summaries if summary.looks is not None]
    return replace(
        first,
        checkpoint="",
        protocol=protocol,
        protocol_digest=digest,
        # what one fold has to say of its scores holds for the whole
        leaks=_joined(each.leaks for each in summaries),
        lost=_joined(each.lost for each in summaries),
        read_otherwise=_joined(each.read_otherwise for each in summaries),
        changed=_joined(each.changed for each in summaries),
        other_images=_joined(each.other_images for each in summaries),
        partial=_partial(len(summaries), planned),
        data=_pooled_data([summary.data for summary in summaries], protocol, digest),
        table_digest="",
        looks=max(looks, default=None),
        maxima={},
        roc_auc={},
        volumes=_pooled_volumes(summaries, scans),
        threshold=mean(summary.threshold for summary in summaries),
        threshold_from=_pooled_choice(summaries),
        folds=FoldScores(
            [summary.protocol for summary in summaries],
            planned,
            untested,
            _values_by_fold(summaries),
        ),
        **find_scores_of_table(pool_tables(tables)),
    )


def _pooled_choice(summaries: Sequence[Summary]) -> str:
    """The way in which thresholds were chosen, with each; empty where somebody gave one."""
    chosen = summaries[0].threshold_from
    each = ", ".join(f"{summary.threshold:.3g}" for summary in summaries)
    return f"the mean over folds, each {chosen}: {each}" if chosen else ""


def _pooled_volumes(
    summaries: Sequence[Summary], scans: Sequence[VolumeRow]
) -> VolumeSummary | None:
    """Means over the scans of all folds; None where a fold has no scans."""
    found = [summary.volumes for summary in summaries if summary.volumes is not None]
    if not scans or len(found) < len(summaries):
        return None
    return summarize_volumes(scans, [name for each in found for name in each.incomplete])


def _joined(words: Iterable[str]) -> str:
    """What is said, each sentence once."""
    return "; ".join(dict.fromkeys(filter(None, words)))


def _partial(tested: int, planned: int) -> str:
    return "" if tested == planned else f"{tested} of {planned} folds of a cross-validation"


def _how_scored(summary: Summary) -> dict[str, str]:
    # thresholds that were chosen in one way are alike
    chosen = {"threshold": summary.threshold_from} if summary.threshold_from else {}
    place = {"data set": summary.dataset, "scored at": summary.scored_at}
    return summary.use() | chosen | place


def _values_by_fold(
    summaries: Sequence[Summary],
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """class -> score -> convention -> the score of each fold."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, scores in summaries[0].scores.items():
        found[name] = {}
        for score in scores:
            found[name][score] = {
                convention: [each.scores[name][score][convention].value for each in summaries]
                for convention in CONVENTIONS
            }
    return found


def _pooled_data(
    prints: Sequence[Mapping[str, Any]], protocol: str, digest: str
) -> Mapping[str, Any]:
    """The fingerprint of all tested images; nothing where a fold has none."""
    found = [Fingerprint.from_json(each) for each in prints]
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        return {}
    contents = {id: content for each in known for id, content in each.contents.items()}
    whole = replace(
        known[0], protocol=protocol, protocol_digest=digest, contents=dict(sorted(contents.items()))
    )
    return whole.to_json()
