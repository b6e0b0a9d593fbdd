"""Templates that all pages share, and how numbers stand in them."""

from pathlib import Path
from typing import Any

from lightning_seg.inference.look_first import uncalibrated_words
from lightning_seg.plots import page_environment
from lightning_seg.reports.printing import EMPTY_RULE, inference_words
from lightning_seg.tables import count_text, interval_text, number_text


def report_environment() -> Any:
    """jinja2's environment of the pages' templates."""
    environment = page_environment(Path(__file__).parent)
    environment.globals |= {
        "inference_words": inference_words,
        "interval_text": interval_text,
        "number_text": number_text,
        "count_text": count_text,
        "false_text": _false_text,
        "uncalibrated_words": uncalibrated_words,
        "rule": EMPTY_RULE[0].upper() + EMPTY_RULE[1:],
    }
    return environment


def _false_text(share: float) -> str:
    """Predicted pixels beside the truth, as a share of its pixels: ``34 %``, ``12 x``."""
    return f"{100 * share:.0f} %" if share < 1.995 else f"{share:.0f} x"
