"""``python -m hpo export``: the recipe of a study's best trial."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial, TrialState

from hpo.conditions import code_warning
from hpo.progress import duration
from hpo.results.best import changes, scores, text_of
from hpo.results.outcome import Outcome, add_outcome_options, name_of, open_outcome
from hpo.results.repeat import main as repeat
from hpo.results.tuned_recipe import tuned_content
from lightning_seg.errors import InputError
from lightning_seg.files import write_whole
from lightning_seg.files.trust import FLAG
from lightning_seg.options import OptionParser, shell_command
from lightning_seg.runs.environment import hardware, read_environment
from lightning_seg.tables import count_text


def main(args: list[str]) -> None:
    """Write the recipe."""
    parser = OptionParser(prog="python -m hpo export", description=__doc__)
    add_outcome_options(parser)
    parser.add_argument(
        "--output",
        type=Path,
        help="the recipe (default: <recipe>_tuned.yaml, in experiments/ where there is one)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="where there is another recipe of that name"
    )
    parser.add_argument(
        "--repeat", type=int, metavar="N", help="then compare with the untuned one over N seeds"
    )
    options = parser.parse_args(args)
    outcome = open_outcome(options)
    trial = outcome.choose(options.trial)
    home = Path("experiments")
    name = f"{Path(outcome.spec.recipe).stem}_tuned.yaml"
    output = options.output or (home if home.is_dir() else Path()) / name
    write(output, text(outcome, trial, output), options.replace)
    print(f"{output}: {name_of(trial)} of study {outcome.study.study_name!r}\n{_fit_line(output)}")
    if options.repeat is not None:
        place = ["--storage", options.storage] if options.storage else []
        place += [FLAG] if options.trust_code else []
        chosen = [
            "--trial",
            str(trial.user_attrs["slot"]),
            "--seeds",
            str(options.repeat),
            "--runs",
            options.runs,
        ]
        repeat(["--study", outcome.study.study_name, *place, *chosen])


def write(output: Path, content: str, replace: bool) -> None:
    if output.is_file() and output.read_text(encoding="utf-8") != content and not replace:
        raise InputError(
            f"{output} holds another recipe; give another --output, or --replace to write over it."
        )
    write_whole(output, content.encode())


def text(outcome: Outcome, trial: FrozenTrial, output: Path) -> str:
    """The recipe with its header: where it comes from, its command, its score and what it cost."""
    return "\n".join(
        [*_header(outcome, trial, output), *_lines(tuned_content(outcome.spec, trial)), ""]
    )


def _header(outcome: Outcome, trial: FrozenTrial, output: Path) -> list[str]:
    spec, study = outcome.spec, outcome.study.study_name
    pairs = {key: tuple(map(text_of, pair)) for key, pair in changes(outcome, trial).items()}
    changed = [
        f"{key} {ours} ({theirs})" for key, (ours, theirs) in pairs.items() if ours != theirs
    ] or ["nothing"]
    counts = {state: outcome.count(state) for state in (TrialState.PRUNED, TrialState.FAIL)}
    machine = next(
        (hardware(s) for run in outcome.folders(trial) for s in _sittings(run)),
        "hardware not known",
    )
    seconds = [t.user_attrs.get("seconds", 0) for t in outcome.trials.values()]
    paragraphs = [
        f"{Path(spec.recipe).stem}.yaml, tuned: the values of {name_of(trial)} of study {study}.",
        _fit_line(output),
        f"Tuned (untuned): {', '.join(changed)}.",
        f"Chosen as the best of {count_text(len(outcome.trials), 'trial')} ({counts[TrialState.PRUNED]} pruned, "
        f"{counts[TrialState.FAIL]} failed; {spec.sampler}) by {spec.objective}, the best epoch of each.",
        f"Validation: {scores(outcome, trial)}. The best of many is optimistic: python -m hpo repeat compares on the test set.",
        *filter(None, [code_warning(outcome.trials.values())]),
        f"Cost of all trials: {duration(sum(seconds))} of training, {machine}.",
    ]
    return [line for paragraph in paragraphs for line in _comment(paragraph)]


def _fit_line(recipe: Path) -> str:
    return f"  {shell_command('lightning-seg', 'fit', '-c', recipe)}"


def _comment(paragraph: str) -> list[str]:
    """Lines of a comment; a command, which is indented, stays whole."""
    if paragraph.startswith("  "):
        return [f"# {paragraph}"]
    return textwrap.wrap(paragraph, 140, initial_indent="# ", subsequent_indent="# ")


def _sittings(folder: Path) -> list[dict[str, Any]]:
    return read_environment(folder / "version_0").get("sittings", [])


def _lines(content: dict[str, Any]) -> Iterator[str]:
    """Lines as recipes have them: one key a line below its section, dictionaries in braces."""
    for section, values in content.items():
        if not isinstance(values, dict):
            yield _entry(section, values)
            continue
        yield f"{section}:"
        for key, value in values.items():
            yield textwrap.indent(_entry(key, value), "  ")


def _entry(key: str, value: Any) -> str:
    if not isinstance(value, dict | list):
        return yaml.safe_dump({key: value}).rstrip("\n")
    return f"{key}: " + yaml.safe_dump(
        value, default_flow_style=True, width=10_000, sort_keys=False
    ).rstrip("\n")
