"""The look that all pages share, as texts that stand in a page and need no network."""

from pathlib import Path

_FOLDER = Path(__file__).parent

# for the style sheet of a page, which sets --paper, --ink, --quiet, --line and, where plots stand
# on another ground than paper, --ground
PLOT_STYLE = (_FOLDER / "plot.css").read_text(encoding="utf-8")
# colours in light and dark, headings, cards, findings, tables, plots
PAGE_STYLE = (_FOLDER / "page.css").read_text(encoding="utf-8") + PLOT_STYLE
# lets the reader sort each `table.sortable`; see the file
SORT_SCRIPT = (_FOLDER / "sortable.js").read_text(encoding="utf-8")
