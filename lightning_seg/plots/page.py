"""The look that all pages share: texts that stand in a page, which needs no network, and the frame
`base.html.j2`, whose blocks a page fills."""

from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent

# for the style sheet of a page, which sets --paper, --ink, --quiet, --line and, where plots stand
# on another ground than paper, --ground
PLOT_STYLE = (_FOLDER / "plot.css").read_text(encoding="utf-8")
# colours in light and dark, headings, cards, findings, tables, plots
PAGE_STYLE = (_FOLDER / "page.css").read_text(encoding="utf-8") + PLOT_STYLE
# lets the reader sort each `table.sortable`; see the file
SORT_SCRIPT = (_FOLDER / "sortable.js").read_text(encoding="utf-8")


def page_environment(folder: Path) -> Any:
    """jinja2's environment of the templates in a folder, which may extend `base.html.j2`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader([folder, _FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"page_style": Markup(PAGE_STYLE), "sort_script": Markup(SORT_SCRIPT)}
    return environment
