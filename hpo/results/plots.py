"""``python -m hpo plot``: pictures of a study, as PNG and as one HTML page that needs no
network."""

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from markupsafe import Markup
from optuna import visualization
from optuna.trial import TrialState

from hpo.progress import describe
from hpo.results.luck import (
    SearchCourse,
    check_control,
    course_of,
    luck_plot,
    show_luck,
)
from hpo.results.outcome import Outcome, add_outcome_options, open_outcome
from lightning_seg import __version__
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole
from lightning_seg.options import OptionParser
from lightning_seg.plots import draw_svg, page_environment, write_picture
from lightning_seg.tables import NONE

_ENDINGS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_GREY, _GRID = "#7d8792", "rgba(128,136,146,.3)"  # to be read on light and on dark pages
PICTURES = {  # name -> the function of optuna.visualization and of optuna.visualization.matplotlib
    "history": "plot_optimization_history",
    "importances": "plot_param_importances",
    "parallel": "plot_parallel_coordinate",
    "slices": "plot_slice",
}


def main(args: list[str]) -> None:
    """Draw a study."""
    parser = OptionParser(prog="python -m hpo plot", description=__doc__)
    add_outcome_options(parser)
    parser.add_argument(
        "--output", type=Path, help="folder (default: plots beside the study's runs)"
    )
    controls = "studies of the same recipe and space, such as random search: their best scores beside this one's at equal epochs"
    parser.add_argument("--against", nargs="+", default=[], metavar="STUDY", help=controls)
    options = parser.parse_args(args)
    outcome = open_outcome(options)
    outcome.choose(options.trial)
    searches = _searches(outcome, options)
    folder = options.output or Path(outcome.spec.runs) / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    if searches:
        show_luck(searches, outcome.spec.objective)
    for path in draw(outcome, folder, searches):
        print(path)


def _searches(outcome: Outcome, options: Namespace) -> list[SearchCourse]:
    """The study and its controls; none without controls."""
    if not options.against:
        return []
    names = [outcome.study.study_name, *options.against]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"--against names {twice!r}, which is there already; give each study once."
        )
    found = [course_of(outcome)]
    for name in options.against:
        control = open_outcome(Namespace(**vars(options) | {"study": name}))
        check_control(outcome, control)
        found.append(course_of(control))
    return found


def draw(outcome: Outcome, folder: Path, searches: Sequence[SearchCourse] = ()) -> list[Path]:
    """Every picture that the study has enough trials for; what was left out is said.

    Args:
        searches: the study and its controls, where there are any.
    """
    written: list[Path] = []
    parts: list[str] = []
    if searches:
        plot = luck_plot(searches, outcome.spec.objective)
        write_picture(folder / "luck.png", plot)
        written.append(folder / "luck.png")
    for name, function, settings in _pictures(outcome):
        try:
            written.append(_png(function, outcome.study, settings, folder / f"{name}.png"))
            figure = getattr(visualization, function)(outcome.study, **settings)
        except (ValueError, RuntimeError) as error:
            print(f"{name} is left out: {error}")
            continue
        parts.append(_page_part(figure, first=not parts))
    luck = draw_svg(plot) if searches else ""
    return [*written, _html(outcome, parts, luck, folder / "study.html")]


def _pictures(outcome: Outcome) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, function and arguments; of two objectives each has pictures of its own."""
    spec = outcome.spec
    if not spec.minimize:
        yield "curves", "plot_intermediate_values", {}
        for name, function in PICTURES.items():
            yield name, function, {"target_name": spec.objective}
        return
    objectives = [spec.objective, spec.minimize]
    yield "pareto", "plot_pareto_front", {"target_names": objectives}
    for place, objective in enumerate(objectives):
        for name, function in PICTURES.items():
            best_is_high = name == "importances" and spec.directions[place] == "maximize"
            settings = {
                "target": _value(place, -1 if best_is_high else 1),
                "target_name": objective,
            }
            yield f"{name}_{objective.rpartition('/')[2]}", function, settings


def _value(place: int, sign: int) -> Callable[[optuna.trial.FrozenTrial], float]:
    """The value that is drawn of a trial; Optuna takes the importance for a low value of it."""
    return lambda trial: sign * trial.values[place]


def _png(
    function: str,
    study: optuna.Study,
    settings: dict[str, Any],
    path: Path,
) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawing

    axes = getattr(drawing, function)(study, **settings)
    figure = pyplot.gcf()
    number = axes.size if hasattr(axes, "size") else 1
    figure.set_size_inches(max(9, 3.2 * number), 5)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close("all")
    return path


def _html(outcome: Outcome, parts: list[str], luck: str, path: Path) -> Path:
    """The page of the study: how its trials ended, the best, the pictures, and every trial."""
    name, spec = outcome.study.study_name, outcome.spec
    if not parts:
        raise InputError(
            f"there is nothing to draw of study {name!r} yet; let `hpo run` finish more trials."
        )
    environment = page_environment(Path(__file__).parent)
    objectives = [objective for objective in (spec.objective, spec.minimize) if objective]
    keys = list(dict.fromkeys(key for trial in outcome.trials.values() for key in trial.params))
    page = environment.get_template("study.html").render(
        name=name,
        objective=" and ".join(objectives),
        counts=[(outcome.count(state), words) for state, words in _ENDINGS.items()],
        best="\n".join(describe(trial, spec) for trial in outcome.front),
        parts=[Markup(part) for part in parts],
        luck=luck,
        header=["trial", "state", *objectives, *keys],
        falling=[spec.objective] if spec.directions[0] == "maximize" else [],
        rows=[_trial_row(slot, outcome, keys) for slot in sorted(outcome.trials)],
        version=__version__,
    )
    write_whole(path, page.encode())
    return path


def _trial_row(slot: int, outcome: Outcome, keys: list[str]) -> list[str]:
    """Number, state, values and parameters of a trial, as texts."""
    trial = outcome.trials[slot]
    values = trial.values or [None] * len(outcome.spec.directions)
    params = [trial.params.get(key) for key in keys]
    return [f"{slot:04d}", trial.state.name.lower(), *map(_cell, [*values, *params])]


def _cell(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _page_part(figure: Any, first: bool) -> str:
    """A figure of plotly for a page that is light or dark; the first one brings plotly along."""
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": _GREY}
    )
    figure.update_xaxes(gridcolor=_GRID, zerolinecolor=_GRID, linecolor=_GRID)
    figure.update_yaxes(gridcolor=_GRID, zerolinecolor=_GRID, linecolor=_GRID)
    found: str = figure.to_html(
        full_html=False, include_plotlyjs=first, config={"responsive": True, "displaylogo": False}
    )
    return found
