"""``lightning-seg report``: one run as one page of HTML that needs nothing else, to see in a minute
whether to trust and like it."""

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_seg import __version__
from lightning_seg.data import DATASETS
from lightning_seg.errors import InputError
from lightning_seg.evaluation.conformal import ERRORS, Guarantee
from lightning_seg.evaluation.curves import calibration_of
from lightning_seg.evaluation.strata import SIZES
from lightning_seg.evaluation.summary import named_data
from lightning_seg.files import write_whole
from lightning_seg.options import OptionParser, add_trust_option, shell_command
from lightning_seg.reports.printing import other_scores
from lightning_seg.reports.run_page._environment import report_environment
from lightning_seg.reports.run_page._figures import (
    Figure,
    anchor,
    calibration,
    dice_by_threshold,
    precision_recall,
    strip,
    training_curves,
)
from lightning_seg.reports.run_page._findings import findings
from lightning_seg.reports.run_page._folds import cross_validation_report
from lightning_seg.reports.run_page._gallery import Example, choose, colour, examples
from lightning_seg.reports.run_page._images import images_table
from lightning_seg.reports.run_page._robustness import robustness_parts
from lightning_seg.reports.run_page._run import ReportedRun, ScoredSplit, open_run
from lightning_seg.reports.run_page._sizes import by_column, by_size, without_lesion
from lightning_seg.reports.run_page._trust import (
    doubtful_images,
    guarantee_part,
    selective_figure,
)
from lightning_seg.runs import find_run
from lightning_seg.runs.cross_validation import CrossValidation
from lightning_seg.runs.environment import hardware
from lightning_seg.tables import count_text

__all__ = ["main", "report"]


def main(args: Sequence[str]) -> None:
    """``lightning-seg report``; see ``lightning-seg report --help``."""
    parser = OptionParser(prog="lightning-seg report", description="One run as one page of HTML.")
    parser.add_argument(
        "run", help="the folder or name of a run or a cross-validation, or a .ckpt file of a run"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: report.html in the run's folder"
    )
    parser.add_argument(
        "--ckpt_path",
        "--ckpt",
        default="best",
        help="best (default), last, or a .ckpt file of the run",
    )
    parser.add_argument(
        "--no-predictions",
        action="store_true",
        help="leave the gallery out, for which images are read",
    )
    add_trust_option(parser)
    options = parser.parse_args(args)
    validation, network = CrossValidation.find(options.run), options.run
    if validation is not None:
        output = _output(options.output, validation.folder)
        page = cross_validation_report(validation)
    else:
        named = Path(options.run).expanduser()
        itself = named.is_file() and options.ckpt_path == "best"
        run = open_run(find_run(options.run).folder, str(named) if itself else options.ckpt_path)
        output = _output(options.output, run.folder)
        page = report(run, not options.no_predictions, options.trust_code)
        network = "" if run.from_files else options.run
    write_whole(output, page.encode())
    print(f"report:  {output}  ({output.stat().st_size / 1e6:.1f} MB; open it in a browser)")
    if network:
        predict = ["lightning-seg", "predict", "--ckpt_path", network, "--input"]
        print(f"next:    {shell_command(*predict)} 'images/*.jpg' --output masks")


def _output(given: Path | None, folder: Path) -> Path:
    """The file of a page; InputError where its folder is not there."""
    output = given or folder / "report.html"
    if not output.parent.is_dir():
        raise InputError(
            f"the folder {str(output.parent)!r} does not exist; make it, or give another --output."
        )
    return output


def report(
    run: ReportedRun,
    predictions: bool = True,
    trust_code: bool = False,
) -> str:
    """The page of a run (`open_run`).

    Args:
        predictions: show the worst, median and best images, which are read from the data set and
            predicted again.
        trust_code: see `read_network`.
    """
    environment = report_environment()
    environment.globals |= {"anchor": anchor, "colour": colour}
    main_result = run.results[0] if run.results else None
    measured = [result.summary for result in run.results if result.summary.measures]
    guarantee, promised = guarantee_part(run)
    shown, reason = (
        gallery(run, main_result, trust_code, guarantee)
        if predictions
        else ([], "It was left out by --no-predictions.")
    )
    return environment.get_template("page.html.j2").render(
        run=run,
        result=main_result,
        own=[each for each in run.results if not run.is_external(each)],
        external=[each for each in run.results if run.is_external(each)],
        others=[(summary, list(other_scores(summary))) for summary in measured],
        header=header(run, main_result),
        findings=findings(run, main_result),
        training=training_curves(run),
        classes=[section(run, main_result, name, shown) for name in run.model["classes"]],
        doubtful=doubtful_images(main_result.table) if main_result else [],
        guarantee=promised,
        errors=ERRORS,
        robustness=robustness_parts(run),
        gallery=shown,
        linked={anchor(example.id) for example in shown},
        reason=reason,
        off=max((example.off for example in shown), default=0.0),
        commands=commands(run),
        version=__version__,
    )


def gallery(
    run: ReportedRun,
    result: ScoredSplit | None,
    trust_code: bool = False,
    guarantee: Guarantee | None = None,
) -> tuple[list[Example], str]:
    """The images, or none and the reason.

    The split of the first result is shown, so test images only where they were scored.
    """
    if result is None:
        return [], "No image was scored; `lightning-seg test` or `validate` does it."
    if run.from_files:
        return [], "The scores are of another tool's files, which are not drawn."
    if result.summary.dataset != run.data["dataset"]:
        return [], f"The scores are of another data set, {result.summary.data_name}."
    from lightning_seg.runs.trained_network import read_network

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = read_network(run.checkpoint, trust_code)
            size = result.summary.size
            settings = run.data | {"size": size if isinstance(size, int) else None}
            return examples(module, settings, result.table, guarantee), ""
    except InputError as error:
        return [], f"Images could not be read: {error}"


def header(
    run: ReportedRun,
    result: ScoredSplit | None,
) -> list[tuple[str, str]]:
    """The facts of the run, as pairs of name and text."""
    if run.from_files:
        return _header_of_files(run)
    weights = run.facts.get("encoder_weights") or {}
    sittings = run.environment.get("sittings", [])
    known = result.summary.groups_known if result else None
    model, facts = run.model, run.facts
    encoder = model["encoder"] or "its own"
    protocol = facts.get("protocol", "unknown")
    digest = facts.get("protocol_digest", "unknown")
    trained_on = facts.get("trained_on")
    losses = model["loss"] or {"bce": 0.5, "dice": 0.5}
    minutes = sum(sitting.get("minutes", 0) for sitting in sittings)
    commits = [str(sitting.get("commit", "")) for sitting in sittings]
    rows = [
        ("architecture", " ".join([model["architecture"], *_options(model["options"])])),
        ("encoder", _join(encoder, weights.get("name"), weights.get("file"))),
        (
            "encoder weights",
            f"sha256 {weights['sha256']}"
            if weights.get("sha256")
            else "none: trained from scratch",
        ),
        ("data set", f"{_data_name(run)}, {_size(run.data['size'])}"),
        ("protocol", f"{protocol}, digest {digest}"),
        ("training images", str(len(trained_on)) if trained_on else ""),
        (
            "groups",
            ""
            if known is None
            else "patients, sequences or duplicates kept together"
            if known
            else "none known",
        ),
        ("loss", _join(*(f"{name} {weight}" for name, weight in losses.items()))),
        ("optimiser", _join(model["optimizer"], f"lr {model['lr']:g}", model["schedule"])),
        ("batch size", str(run.data["batch_size"])),
        (
            "epochs",
            _join(_epochs(run), f"this page: epoch {run.content['epoch'] + 1}"),
        ),
        ("seed", str(run.data["seed"])),
        ("commit", _join(*commits)),
        ("hardware", _join(*map(hardware, sittings))),
        ("minutes", f"{minutes:.1f}" if sittings else ""),
        ("checkpoint", run.checkpoint.name),
    ]
    return [(name, text) for name, text in rows if text]


def _header_of_files(run: ReportedRun) -> list[tuple[str, str]]:
    summary = run.results[0].summary
    return [
        ("scored from files", summary.predictions),
        ("network and training", "not known here"),
        ("data set", summary.dataset),
        ("protocol", f"{summary.protocol}, digest {summary.protocol_digest}"),
        ("split", f"{summary.split}, {count_text(summary.images, 'image')}"),
    ]


def section(
    run: ReportedRun, result: ScoredSplit | None, name: str, shown: list[Example]
) -> dict[str, Any]:
    """All figures and tables of one class."""
    figures = _probability_figures(run, result, name)
    if result is None:
        return {
            "name": name,
            "figures": figures,
            "groups": [],
            "columns": {},
            "empty": None,
            "images": None,
        }
    table, groups = result.table, by_size(result.table, name)
    ids = [example.id for example in shown]
    linked = [(table.ids.index(id), anchor(id)) for id in ids]
    linked = linked or [(row, "") for _, row in choose(table)]
    sizes = [group for group in groups if group.name in SIZES]
    figures.insert(0, strip(table, name, sizes, linked))
    selective = selective_figure(table, name)
    if selective is not None:
        figures.append(selective)
    return {
        "name": name,
        "figures": figures,
        "groups": groups,
        "columns": by_column(table, name),
        "empty": without_lesion(table, name),
        "images": images_table(table, name),
    }


def _probability_figures(
    run: ReportedRun,
    result: ScoredSplit | None,
    name: str,
) -> list[Figure]:
    """The curves of probabilities that are on record.

    Calibration sums of the table are exact; the histogram stands in for them.
    """
    histogram, sums = run.histogram(name, result), None
    if result is not None and result.table.calibration is not None:
        of_images = result.table.calibration[:, result.table.index(name)]
        sums = of_images.sum(0)
    found = []
    if histogram is not None:
        found.append(precision_recall(histogram, name))
        threshold = float(result.summary.threshold) if result is not None else 0.5
        test = result is not None and result.summary.split == "test"
        found.append(dice_by_threshold(histogram, name, threshold, test))
        if sums is None or not sums.any():
            sums = calibration_of(histogram)
    if sums is not None and sums.any():
        found.append(calibration(sums, name))
    return found


def commands(run: ReportedRun) -> list[str]:
    """Commands to type to get this run and its scores again."""
    root = run.folder.parent.parent
    shown = os.path.relpath(root) if root.is_relative_to(Path.cwd()) else str(root)
    where = ["--name", run.name]
    if shown != "runs":
        where += ["--runs", shown]
    if run.from_files:
        return [_scoring_of_files(result, where) for result in run.results]
    sittings = [
        sitting
        for sitting in run.environment.get("sittings", [])
        if sitting.get("commit", "unknown") != "unknown"
    ]
    lines = []
    for sitting in sittings[:1]:
        lines.append(["git", "checkout", sitting["commit"].removesuffix("-dirty")])
    from_config = ["fit", "-c", "config.yaml", *where]
    given = run.environment.get("command") or from_config
    lines.append(["lightning-seg", *given])
    whole = [result for result in run.results if not result.summary.partial]
    lines += [_scoring(run, result, where) for result in whole]
    lines.append(["lightning-seg", "report", os.path.join(shown, run.name)])
    return [shell_command(*line) for line in lines]


def _scoring_of_files(result: ScoredSplit, where: list[str]) -> str:
    """The command of a `score`, with what differs from its defaults."""
    summary, data = result.summary, result.summary.data
    root, options = str(data.get("root") or ""), data.get("options") or {}
    if summary.dataset in DATASETS:
        truth = ["--dataset", summary.dataset, "--protocol", summary.protocol]
        truth += ["--split", summary.split, *(["--root", root] if root else [])]
        truth += ["--dataset_options", json.dumps(options)] if options else []
    else:
        truth = [root or summary.dataset]
    given = [*(["--size", str(summary.size)] if isinstance(summary.size, int) else [])]
    given += ["--threshold", f"{summary.threshold:g}"] if summary.threshold != 0.5 else []
    return shell_command("lightning-seg", "score", summary.predictions, *truth, *where, *given)


def _scoring(
    run: ReportedRun,
    result: ScoredSplit,
    where: list[str],
) -> list[str]:
    """The command of a test or validation, with what differs from the data of the training."""
    summary = result.summary
    which = run.checkpoint.name.partition("-")[0]
    verb = "test" if summary.split == "test" else "validate"
    checkpoint = (
        [*where, "--ckpt_path", which]
        if which in ("best", "last")
        else ["--ckpt_path", str(run.checkpoint)]
    )
    given = {
        "dataset": (summary.dataset, run.data["dataset"]),
        "protocol": (summary.protocol, run.facts.get("protocol")),
        "size": (summary.size, run.data["size"] or "native"),
    }
    other = [
        word
        for key, (ours, theirs) in given.items()
        if ours != theirs
        for word in (f"--data.{key}", str(ours))
    ]
    return ["lightning-seg", verb, *checkpoint, *other]


def _epochs(run: ReportedRun) -> str:
    """``60``; of a training that ended before, ``interrupted after 12 of 60`` or ``12 of 60``."""
    kept = run.environment
    trainer = run.recipe().get("trainer") or {}
    planned = trainer.get("max_epochs")
    sittings = kept.get("sittings", [])
    ending = kept.get("ending") or {}
    recorded = [sitting.get("epochs", 0) for sitting in sittings]
    done = ending.get("epochs_done") or max(recorded, default=0)
    if not done or done == planned:
        return str(planned or done or "")
    of = f"{done} of {planned}" if planned else str(done)
    status = ending.get("status", "complete")
    words = {"running": "running or killed"}
    return of if status == "complete" else f"{words.get(status, status)} after {of}"


def _data_name(run: ReportedRun) -> str:
    return named_data(run.data["dataset"], run.data.get("root") or "")


def _options(options: dict[str, Any] | None) -> list[str]:
    return [f"{key}={value}" for key, value in (options or {}).items()]


def _join(*parts: str | None) -> str:
    return ", ".join(dict.fromkeys(part for part in parts if part))


def _size(size: int | None) -> str:
    return f"{size} x {size} pixels" if size else "native size"
