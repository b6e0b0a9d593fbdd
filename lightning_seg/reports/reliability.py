"""The reliability diagram: how often pixels of a predicted probability are foreground."""

from lightning_seg.evaluation.curves import Reliability
from lightning_seg.plots import Axis, Plot


def share_axis(label: str) -> Axis:
    """An axis from 0 to 1."""
    return Axis(label, 0, 1)


def reliability_plot(found: Reliability, name: str) -> Plot:
    """Draw the diagram of a class; calibrated probabilities lie on its diagonal."""
    alt = f"Reliability diagram of {name}: expected calibration error {found.ece:.4f}"
    plot = Plot(share_axis("predicted probability"), share_axis("share of foreground"), alt)
    plot.segment((0, 0), (1, 1), "mark")
    points = found.probability.tolist(), found.frequency.tolist()
    plot.line(*points, "s1")
    plot.dots(*points, "s1")
    plot.text(0.03, 0.92, f"ECE {found.ece:.4f}", "label")
    return plot
