"""The pages of results of the documentation, written from ``experiments/results`` as they are.

``docs/conf.py`` calls `write_results` at each build: a page of Markdown with cost against Dice, and
the explorer, one page of HTML that needs no network.
"""

import html
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from experiments.leaderboard import page, plots  # noqa: E402
from experiments.leaderboard.__main__ import collect  # noqa: E402
from experiments.leaderboard.boards import Board  # noqa: E402
from experiments.leaderboard.columns import CONVENTIONS  # noqa: E402
from experiments.leaderboard.marks import Flag, board_flags, line_flags, short_names  # noqa: E402
from experiments.leaderboard.text import LeaderboardContent, board_title, facts_of  # noqa: E402
from lightning_seg.plots import Plot, draw_svg  # noqa: E402

EXPLORER = "leaderboard.html"
_INTRODUCTION = """# Results

What was trained here, read from the tables in `experiments/results` when this site was built. Each
table holds one set of test images under one convention; **nothing in it is to be compared with
another table**. How to read it: [leaderboards](../../howto/leaderboard.md).

<p><a class="explorer" href="../../{explorer}">Open the results explorer</a>: every column, sortable, with
the recipe behind each name, ranks, every test image, and published results beside ours.</p>
"""


def write_results(folder: Path) -> None:
    """Write ``results.md`` and ``speed.md`` into ``folder``, the explorer into its ``site``."""
    content = collect()
    (folder / "site").mkdir(parents=True, exist_ok=True)
    _write_changed(folder / "site" / EXPLORER, page.html(content))
    _write_changed(folder / "results.md", results_text(content))
    _write_changed(folder / "speed.md", speed_text())


def results_text(content: LeaderboardContent) -> str:
    """The page: for each set of images the Dice of every model, and what it costs."""
    parts = [_INTRODUCTION.format(explorer=EXPLORER)]
    for key, boards in content.by_images.items():
        board = boards[0]
        badges = "".join(map(_badge, board_flags(key, board.facts)))
        parts += [f"## {board_title(key, marked=False)}", badges, facts_of(board)]
        parts += [_table(board), _figure(plots.pareto(board), "Dice and cost"), _strips(board)]
    return "\n\n".join(filter(None, parts)) + "\n"


def speed_text() -> str:
    """``benchmarks/RESULTS.md`` with links that lead from the folder of the page."""
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    text = re.sub(r"\n*All repetitions: [^\n]*\n", "\n", text)
    text = text.replace("# Measured\n", "# Speed\n", 1)
    return text.replace("](results/", "](../../../benchmarks/results/")


def _table(board: Board) -> str:
    head = f"Dice, {CONVENTIONS[board.key.convention]}"
    rows = [f"| rank | model | {head} | 95 % | seeds | standing |", "|---|---|---|---|---|---|"]
    for line, name in zip(board.lines, short_names(board), strict=True):
        found = line.ranking
        badges = "".join(map(_badge, line_flags(line)))
        model = f"{html.escape(name)} {badges}".replace("|", "\\|")
        cells = (
            str(found.rank or "-"),
            model,
            f"{found.value:.4f}",
            f"{found.low:.3f}&nbsp;to&nbsp;{found.high:.3f}",
            str(len(line.facts)),
            line.standing,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _badge(flag: Flag) -> str:
    return f'<span class="badge" title="{html.escape(flag.meaning)}">{flag.word}</span> '


def _figure(plot: Plot | None, title: str) -> str:
    if plot is None:
        return ""
    caption = f"<figcaption>{title}</figcaption>"
    return f'<figure class="chart">\n{draw_svg(plot)}\n{caption}\n</figure>'


def _strips(board: Board) -> str:
    """Every test image of every model; folded where there are many."""
    drawn = _figure(plots.strips(board), "Dice of every test image, mean and its interval")
    if not drawn:
        return ""
    return f"<details><summary>Every test image</summary>\n{drawn}\n</details>"


def _write_changed(file: Path, text: str) -> None:
    """Keep a file, and so its time, that stays the same."""
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")
