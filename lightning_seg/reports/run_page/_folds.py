"""The page of a cross-validation: its folds, and what they found together."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from lightning_seg import __version__
from lightning_seg.evaluation.scored_table import check_summary, scores_file
from lightning_seg.evaluation.strata import SIZES
from lightning_seg.evaluation.summary import Estimate, Summary
from lightning_seg.evaluation.table import ScoreTable
from lightning_seg.options import shell_command
from lightning_seg.reports.printing import fold_rows, other_scores
from lightning_seg.reports.run_page._environment import report_environment
from lightning_seg.reports.run_page._figures import calibration, strip
from lightning_seg.reports.run_page._gallery import choose
from lightning_seg.reports.run_page._images import images_table
from lightning_seg.reports.run_page._run import ScoredSplit
from lightning_seg.reports.run_page._sizes import by_column, by_size
from lightning_seg.runs.cross_validation import CrossValidation

_GRAVE = ("PARTIAL", "SYNTHETIC", "this protocol")
_HEADER = ("model.architecture", "model.encoder", "data.size", "data.crop")


class FoldRow(NamedTuple):
    """One fold in the table of folds; ``dice``: of each class, as mean over images and pooled."""

    run: str
    protocol: str
    training: str
    images: str
    dice: list[tuple[Estimate, Estimate]]


def cross_validation_report(validation: CrossValidation) -> str:
    """The page of a cross-validation, which holds one result for all of its folds."""
    results = [_scored(folder) for folder in validation.scored()]
    result = results[0] if results else None
    names = list(result.table.classes) if result else []
    return (
        report_environment()
        .get_template("folds.html.j2")
        .render(
            name=validation.name,
            protocol=validation.protocol,
            result=result,
            others=results[1:],
            folds=result.summary.folds if result else None,
            fold_rows=fold_rows(result.summary.folds) if result and result.summary.folds else [],
            measures=list(other_scores(result.summary)) if result else [],
            findings=list(_findings(validation, result)),
            header=_header(validation, result),
            classes=names,
            rows=[_fold(validation, place, names) for place in range(len(validation.folds))],
            sections=[_section(result, name) for name in names] if result else [],
            commands=_commands(validation),
            version=__version__,
        )
    )


def _scored(folder: Any) -> ScoredSplit:
    summary = Summary.read(folder)
    check_summary(summary, folder)
    return ScoredSplit(summary, ScoreTable.read(scores_file(folder)), folder)


def _findings(validation: CrossValidation, result: ScoredSplit | None) -> Iterator[tuple[str, str]]:
    """The notes to read first, each with its weight."""
    trained = len(validation.trained)
    if trained < len(validation.folds):
        yield "stop", f"PARTIAL: {trained} of {len(validation.folds)} folds are trained."
    elif result is None and validation.unfinished:
        yield "stop", f"{validation.unfinished}."
    for text in result.summary.cautions() if result else ():
        level = "stop" if text.startswith(_GRAVE) else "care"
        yield level, f"{text[0].upper()}{text[1:]}."
    looks = result.summary.looks if result else None
    if looks and looks > 1:
        yield "care", f"A test split of these folds had been scored {looks} times."


def _header(validation: CrossValidation, result: ScoredSplit | None) -> list[tuple[str, str]]:
    settings = validation.settings
    rows = [(key.partition(".")[2], settings.get(key)) for key in _HEADER]
    minutes = [sitting.get("minutes", 0) for run in validation.trained for sitting in run.sittings]
    rows += [
        ("data set", result.summary.data_name if result else settings.get("data.dataset")),
        ("epochs", settings.get("trainer.max_epochs")),
        ("seed", settings.get("seed_everything")),
        ("folds", f"{validation.protocol}, {len(validation.folds)} networks"),
        ("digest", result.summary.protocol_digest if result else None),
        ("minutes", f"{sum(minutes):.1f}"),
    ]
    return [(name, str(value)) for name, value in rows if value is not None]


def _fold(validation: CrossValidation, place: int, names: list[str]) -> FoldRow:
    run, fold = validation.run(place), validation.folds[place]
    training = run.ending.text if run is not None else "not trained"
    tests = sorted(validation.tests(place).items(), key=lambda each: len(each[0]))
    if not tests:
        return FoldRow(f"fold_{place + 1}", fold.protocol, training, "not tested", [])
    scores = Summary.read(tests[0][1])
    found = [scores.scores[name]["dice"] for name in names]
    dice = [(each["image"], each["pooled"]) for each in found]
    return FoldRow(f"fold_{place + 1}", fold.protocol, training, str(scores.images), dice)


def _section(result: ScoredSplit, name: str) -> dict[str, Any]:
    """The figures and tables of one class."""
    table = result.table
    groups = by_size(table, name)
    sizes = [group for group in groups if group.name in SIZES]
    figures = [strip(table, name, sizes, [(row, "") for _, row in choose(table)])]
    if table.calibration is not None:
        sums = table.calibration[:, table.index(name)].sum(0)
        figures += [calibration(sums, name)] if sums.any() else []
    return {
        "name": name,
        "figures": figures,
        "groups": groups,
        "columns": by_column(table, name),
        "images": images_table(table, name),
    }


def _commands(validation: CrossValidation) -> list[str]:
    """Commands to type: that of each fold, and of the ensemble."""
    trainings = [run.environment.get("command") for run in validation.trained]
    lines = [shell_command("lightning-seg", *command) for command in trainings if command]
    predict = ["predict", "--ckpt_path", validation.folder, "--input", "Y", "--output", "DIR"]
    return [*lines, shell_command("lightning-seg", *predict)]
