"""``lightning-seg report``: one run as one page of HTML that needs nothing else, to see in a minute
whether to trust and like it."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_seg import __version__
from lightning_seg.errors import InputError
from lightning_seg.evaluation.curves import calibration_of
from lightning_seg.evaluation.strata import SIZES
from lightning_seg.files import write_whole
from lightning_seg.options import OptionParser, add_trust_option, shell_command
from lightning_seg.plots import PLOT_STYLE
from lightning_seg.reports.printing import EMPTY_RULE, other_scores
from lightning_seg.reports.run_page._figures import (
    Figure,
    anchor,
    calibration,
    precision_recall,
    strip,
    training_curves,
)
from lightning_seg.reports.run_page._findings import findings
from lightning_seg.reports.run_page._gallery import Example, choose, colour, examples
from lightning_seg.reports.run_page._run import ReportedRun, ScoredSplit, open_run
from lightning_seg.reports.run_page._sizes import by_size, without_lesion
from lightning_seg.runs import find_run
from lightning_seg.runs.environment import hardware
from lightning_seg.tables import interval_text, number_text

__all__ = ["main", "report"]


def main(args: Sequence[str]) -> None:
    """``lightning-seg report``; see ``lightning-seg report --help``."""
    parser = OptionParser(prog="lightning-seg report", description="One run as one page of HTML.")
    parser.add_argument("run", help="the folder or name of a run, or a .ckpt file of it")
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
    named = Path(options.run).expanduser()
    itself = named.is_file() and options.ckpt_path == "best"
    run = open_run(find_run(options.run).folder, str(named) if itself else options.ckpt_path)
    output = options.output or run.folder / "report.html"
    if not output.parent.is_dir():
        raise InputError(
            f"the folder {str(output.parent)!r} does not exist; make it, or give another --output."
        )
    page = report(run, not options.no_predictions, options.trust_code)
    write_whole(output, page.encode())
    print(f"report:  {output}  ({output.stat().st_size / 1e6:.1f} MB)")


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
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("lightning_seg.reports.run_page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "anchor": anchor,
        "colour": colour,
        "interval_text": interval_text,
        "number_text": number_text,
        "rule": EMPTY_RULE[0].upper() + EMPTY_RULE[1:],
    }
    main_result = run.results[0] if run.results else None
    measured = [result.summary for result in run.results if result.summary.measures]
    shown, reason = (
        gallery(run, main_result, trust_code)
        if predictions
        else ([], "It was left out by --no-predictions.")
    )
    return environment.get_template("page.html.j2").render(
        plot_style=Markup(PLOT_STYLE),
        run=run,
        result=main_result,
        others=[(summary, list(other_scores(summary))) for summary in measured],
        header=header(run, main_result),
        findings=findings(run, main_result),
        training=training_curves(run),
        classes=[section(run, main_result, name, shown) for name in run.model["classes"]],
        gallery=shown,
        reason=reason,
        off=max((example.off for example in shown), default=0.0),
        commands=commands(run),
        version=__version__,
    )


def gallery(
    run: ReportedRun, result: ScoredSplit | None, trust_code: bool = False
) -> tuple[list[Example], str]:
    """The images, or none and the reason.

    The split of the first result is shown, so test images only where they were scored.
    """
    if result is None:
        return [], "No image was scored; `lightning-seg test` or `validate` does it."
    if result.summary.dataset != run.data["dataset"]:
        return [], f"The scores are of another data set, {result.summary.dataset}."
    from lightning_seg.runs.trained_network import read_network

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = read_network(run.checkpoint, trust_code)
            size = result.summary.size
            settings = run.data | {"size": size if isinstance(size, int) else None}
            return examples(module, settings, result.table), ""
    except InputError as error:
        return [], f"Images could not be read: {error}"


def header(
    run: ReportedRun,
    result: ScoredSplit | None,
) -> list[tuple[str, str]]:
    """The facts of the run, as pairs of name and text."""
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
        ("data set", f"{run.data['dataset']}, {_size(run.data['size'])}"),
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


def section(
    run: ReportedRun, result: ScoredSplit | None, name: str, shown: list[Example]
) -> dict[str, Any]:
    """All figures and tables of one class."""
    figures = _probability_figures(run, result, name)
    if result is None:
        return {"name": name, "figures": figures, "groups": [], "empty": None}
    table, groups = result.table, by_size(result.table, name)
    ids = [example.id for example in shown]
    linked = [(table.ids.index(id), anchor(id)) for id in ids]
    linked = linked or [(row, "") for _, row in choose(table)]
    sizes = [group for group in groups if group.name in SIZES]
    figures.insert(0, strip(table, name, sizes, linked))
    return {
        "name": name,
        "figures": figures,
        "groups": groups,
        "empty": without_lesion(table, name),
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


def _options(options: dict[str, Any] | None) -> list[str]:
    return [f"{key}={value}" for key, value in (options or {}).items()]


def _join(*parts: str | None) -> str:
    return ", ".join(dict.fromkeys(part for part in parts if part))


def _size(size: int | None) -> str:
    return f"{size} x {size} pixels" if size else "native size"
