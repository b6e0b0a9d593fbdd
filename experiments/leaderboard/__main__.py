"""The command ``python -m experiments leaderboard``."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from experiments.copies import KnownTables
from experiments.facts import RESULTS, RecordedResult, load_results, results_folder
from experiments.leaderboard import page, text
from experiments.leaderboard.boards import make_boards
from experiments.leaderboard.elsewhere import set_beside
from experiments.published import read_evaluations, unscored_systems
from experiments.record import check_rows, read_rows
from experiments.runs import find_runs, results_of
from lightning_seg.errors import InputError
from lightning_seg.evaluation.summary import Summary
from lightning_seg.files import write_whole
from lightning_seg.options import OptionParser, add_trust_option
from lightning_seg.runs.scored_weights import check_scores


def main(args: list[str]) -> None:
    """Write LEADERBOARD.md and leaderboard.csv, and the page where one is asked for."""
    options = _parser().parse_args(args)
    content = collect(options.results, options.runs, options.trust_code)
    written = {"LEADERBOARD.md": text.markdown(content), "leaderboard.csv": text.board_csv(content)}
    for name, body in written.items():
        file = (options.output or options.results) / name
        write_whole(file, body.encode())
        print(file)
    if options.html:
        write_whole(options.html, page.html(content).encode())
        print(options.html)


def collect(
    results: Path = RESULTS, runs: list[Path] | None = None, trust_code: bool = False
) -> text.LeaderboardContent:
    """The boards and published results of what lies in ``results``, and of ``runs`` that are not
    recorded.

    Raises:
        InputError: there is nothing to show, or there are two runs of one training and seed.
    """
    folders = find_runs(runs or [])
    shown = (result for run in folders for result in results_of(run, trust_code=trust_code))
    found = _once(load_results(results), _checked(shown))
    _ = KnownTables(found)  # an InputError for a run and its copy
    rows, file = read_rows(results / "reproduced.csv"), results / "reported.csv"
    check_rows(found, rows)
    evaluations = [*read_evaluations(file), *unscored_systems()] if file.is_file() else []
    boards = make_boards(found, rows, evaluations)
    if not boards:
        raise InputError(
            f"nothing is recorded in {str(results)!r}; first: lightning-seg record runs/<name>."
        )
    return text.LeaderboardContent(boards, set_beside(evaluations, found))


def _checked(results: Iterable[RecordedResult]) -> Iterator[RecordedResult]:
    """Each run whose summary says what its table says; InputError for another."""
    for result in results:
        check_scores(Summary.read(result.file.parent), result.file.parent)
        yield result


def _once(
    recorded: Iterable[RecordedResult], others: Iterable[RecordedResult]
) -> list[RecordedResult]:
    """Each run once, also where it is recorded already: twice it would pass for two seeds."""
    found = {result.facts.place: result for result in recorded}
    for result in others:
        known = found.setdefault(result.facts.place, result)
        if known.file.read_bytes() != result.file.read_bytes():
            raise InputError(
                f"{known.file} and {result.file} are two runs of the same training and seed; show one of them: "
                "the better of two is no result."
            )
    return list(found.values())


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="python -m experiments leaderboard",
        description="What was recorded, with intervals, ranks and ties, as Markdown, CSV and HTML.",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=results_folder(),
        help="where it is recorded (default: experiments/results of a checkout, elsewhere ./results)",
    )
    parser.add_argument(
        "--runs", type=Path, nargs="+", help="run folders to show besides, that are not recorded"
    )
    add_trust_option(parser)
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for LEADERBOARD.md and leaderboard.csv (default that of --results)",
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write one page, with plots, that needs no network",
    )
    return parser
