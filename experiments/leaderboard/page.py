"""The leaderboard as one page of HTML: sortable, with plots, light and dark, without any
network."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from experiments.leaderboard import plots, text
from experiments.leaderboard.boards import Board
from experiments.leaderboard.columns import CONVENTIONS, columns
from experiments.leaderboard.marks import board_flags, line_flags, short_names
from lightning_seg.plots import PLOT_STYLE, SORT_SCRIPT, draw_svg


def html(content: text.LeaderboardContent) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("experiments.leaderboard", "."),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.trim_blocks = environment.lstrip_blocks = True
    sections = [
        {
            "title": text.board_title(key, marked=False),
            "flags": board_flags(key, boards[0].facts),
            "facts": text.facts_of(boards[0]).replace("`", ""),
            "boards": [_board(b) for b in boards],
        }
        for key, boards in content.by_images.items()
    ]
    return environment.get_template("page.html").render(
        plot_style=Markup(PLOT_STYLE),
        sort_script=Markup(SORT_SCRIPT),
        introduction=text.INTRODUCTION,
        sections=sections,
        elsewhere=text.ELSEWHERE,
        published_head=text.PUBLISHED_HEAD,
        published=[text.published_cells(row) for row in content.scored if row.ours],
        unmatched=[text.published_cells(row) for row in content.scored if not row.ours],
    )


def _board(board: Board) -> dict[str, Any]:
    shown = columns(board)
    return {
        "convention": CONVENTIONS[board.key.convention],
        "columns": shown,
        "rows": [[_cell(column, line) for column in shown] for line in board.lines],
        "standings": [line.standing for line in board.lines],
        "flags": [line_flags(line) for line in board.lines],
        "names": short_names(board),
        "plots": _plots(board),
    }


def _plots(board: Board) -> list[dict[str, str]]:
    """The plots that the board has enough lines for, with their titles."""
    named = {
        "Accuracy and cost": plots.pareto(board),
        "Ranks, 95 % intervals": plots.ranks(board),
    }
    if board.key.convention == "image":
        named["Every test image"] = plots.strips(board)
    return [{"title": title, "svg": draw_svg(plot)} for title, plot in named.items() if plot]


def _cell(column: Any, line: Any) -> dict[str, Any]:
    return {"text": column.text(line), "small": column.small(line), "sort": column.sort(line)}
