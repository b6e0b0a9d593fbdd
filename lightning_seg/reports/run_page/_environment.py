"""Templates that all pages share, and how numbers stand in them."""

from typing import Any

from lightning_seg.plots import PAGE_STYLE, SORT_SCRIPT
from lightning_seg.reports.printing import EMPTY_RULE, inference_words
from lightning_seg.tables import count_text, interval_text, number_text


def page_environment() -> Any:
    """jinja2's environment of the pages' templates."""
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
        "inference_words": inference_words,
        "interval_text": interval_text,
        "number_text": number_text,
        "page_style": Markup(PAGE_STYLE),
        "sort_script": Markup(SORT_SCRIPT),
        "count_text": count_text,
        "rule": EMPTY_RULE[0].upper() + EMPTY_RULE[1:],
    }
    return environment
