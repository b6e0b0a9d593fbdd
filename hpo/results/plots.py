"""``python -m hpo plot``: pictures of a study, as PNG and as one HTML page that needs no
network."""

from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import optuna
from optuna import visualization

from hpo.results.outcome import Outcome, add_outcome_options, open_outcome
from lightning_seg.errors import InputError
from lightning_seg.options import OptionParser

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
    options = parser.parse_args(args)
    outcome = open_outcome(options)
    outcome.choose(options.trial)
    folder = options.output or Path(outcome.spec.runs) / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    for path in draw(outcome, folder):
        print(path)


def draw(outcome: Outcome, folder: Path) -> list[Path]:
    """Every picture that the study has enough trials for; what was left out is said."""
    written: list[Path] = []
    parts: list[str] = []
    for name, function, settings in _pictures(outcome):
        try:
            written.append(_png(function, outcome.study, settings, folder / f"{name}.png"))
            figure = getattr(visualization, function)(outcome.study, **settings)
        except (ValueError, RuntimeError) as error:
            print(f"{name} is left out: {error}")
            continue
        parts.append(figure.to_html(full_html=False, include_plotlyjs=not parts))
    return [*written, _html(outcome.study.study_name, parts, folder / "study.html")]


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


def _html(title: str, parts: list[str], path: Path) -> Path:
    if not parts:
        raise InputError(
            f"there is nothing to draw of study {title!r} yet; let `hpo run` finish more trials."
        )
    body = "\n".join(parts)
    path.write_text(
        f'<!doctype html><html><head><meta charset="utf-8"><title>{escape(title)}</title></head><body>{body}</body></html>'
    )
    return path
