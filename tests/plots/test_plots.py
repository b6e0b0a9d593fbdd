"""Plots: what is drawn stands where its values are, as SVG and as a picture."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_seg.evaluation.curves import calibration_of, reliability
from lightning_seg.plots import Axis, Plot, draw_picture, draw_svg
from lightning_seg.plots.picture import COLOURS
from lightning_seg.reports.reliability import reliability_plot


def unit_plot(**settings):
    return Plot(Axis("across", 0, 1), Axis("up", 0, 1), "a plot", **settings)


def is_coloured(picture, css):
    """The pixels of a colour."""
    wanted = [int(COLOURS[css][start : start + 2], 16) for start in (1, 3, 5)]
    return np.abs(picture.astype(int) - wanted).sum(2) < 40


@given(st.floats(-1e6, 1e6), st.floats(1e-7, 1e6), st.booleans())
def test_ticks_are_few_rise_and_lie_on_the_axis(low, span, whole):
    axis = Axis("x", low, low + span, whole=whole)
    values = [value for value, _ in axis.ticks()]
    assert values == sorted(values)
    assert len(values) <= 12
    assert all(-0.01 <= axis.at(value) <= 1.01 for value in values)


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e8))
def test_ticks_of_a_logarithmic_axis_are_few_too(low, ratio):
    axis = Axis("x", low, low * ratio, log=True)
    values = [value for value, _ in axis.ticks()]
    assert values == sorted(values)
    assert 2 <= len(values) <= 12
    assert all(-0.01 <= axis.at(value) <= 1.01 for value in values)
    assert axis.at(low * ratio**0.5) == pytest.approx(0.5)


def test_words_are_text_and_never_markup():
    plot = Plot(Axis('"<b>', 0, 1), Axis("", 0, 1), alt='a "quoted" <class>')
    plot.disc(0.5, 0.5, "s1", "<script>", "here", "<i>")
    plot.text(0, 0, "<u>")
    svg = str(draw_svg(plot))
    assert 'aria-label="a &#34;quoted&#34; &lt;class&gt;"' in svg
    assert not re.search("<(script|b|i|u)>", svg)


def test_a_disc_stands_at_its_values_in_both_drawings():
    plot = unit_plot()
    plot.disc(0.25, 0.75, "s2", "here")
    left, right = plot.left, plot.width - 12
    x, y = left + 0.25 * (right - left), 12 + 0.25 * (plot.height - 40 - 12)
    assert f'cx="{round(x, 1)}" cy="{round(y, 1)}"' in draw_svg(plot)
    rows, columns = np.nonzero(is_coloured(draw_picture(plot, scale=3), "s2"))
    assert (columns.mean() / 3, rows.mean() / 3) == pytest.approx((x, y), abs=0.6)
    assert np.ptp(columns) / 3 == pytest.approx(9, abs=1)


def test_a_line_passes_through_its_points_and_breaks_at_none():
    plot = unit_plot()
    plot.line([0, 0.5, np.nan, 1], [0, 1, 0.5, 0], "s1")
    picture = is_coloured(draw_picture(plot, scale=1), "s1")
    for x, y in ((0.25, 0.5), (0.75, 0.5)):
        row, column = round(plot.py(y)), round(plot.px(x))
        assert picture[row - 2 : row + 3, column - 2 : column + 3].any()
    middle = round(plot.px(0.5))
    assert not picture[round(plot.py(0.5)), middle - 20 : middle + 20].any()


def test_a_long_line_keeps_its_ends():
    plot = unit_plot()
    xs = np.linspace(0, 1, 5000)
    plot.line(xs.tolist(), xs.tolist(), "s1")
    (mark,) = plot.marks
    assert len(mark.points) <= 602
    assert (mark.points[0], mark.points[-1]) == ((0, 0), (1, 1))


def test_a_line_of_one_point_is_a_dot():
    plot = unit_plot()
    plot.line([0.5], [0.5], "s1")
    assert is_coloured(draw_picture(plot, 1), "s1").sum() > 15


def test_a_matrix_is_drawn_from_the_lower_left_corner_up():
    names = ("a", "b", "c")
    axes = [Axis(label, -0.5, 2.5, names=names, turned=label == "x") for label in "xy"]
    plot = Plot(*axes, alt="three", width=300, height=300, margin=60)
    plot.cells(np.array([[0.0, 0, 0], [0, 0.5, 0], [1, 0, 0]]))
    picture = draw_picture(plot, 1).astype(int).sum(2)
    cells = [[picture[round(plot.py(row)), round(plot.px(x))] for x in range(3)] for row in (0, 2)]
    assert cells[0] == [cells[0][0]] * 3  # nothing but zeros below
    assert cells[1][0] > 600 > 50 > cells[1][1]  # the highest value is bright


def test_calibrated_probabilities_lie_on_the_diagonal():
    frequency = (np.arange(256) + 0.5) / 256
    histogram = np.stack([1000 * (1 - frequency), 1000 * frequency]).astype(np.int64)
    plot = reliability_plot(reliability(calibration_of(histogram)), "polyp")
    rows, columns = np.nonzero(is_coloured(draw_picture(plot, 2), "s1"))
    across = (columns / 2 - plot.px(0)) / (plot.px(1) - plot.px(0))
    up = (plot.py(0) - rows / 2) / (plot.py(0) - plot.py(1))
    assert len(rows) > 400
    assert np.abs(across - up).max() < 0.04


def test_overconfident_probabilities_lie_below_the_diagonal():
    bins = np.arange(256)
    histogram = np.where(bins < 128, [[1000], [0]], [[900], [100]])
    plot = reliability_plot(reliability(calibration_of(histogram)), "polyp")
    expected = 0.25 * 0.5 + (0.75 - 0.1) * 0.5
    assert f"ECE {expected:.4f}" in draw_svg(plot)
    (line,) = [mark for mark in plot.marks if type(mark).__name__ == "LineMark"]
    assert {round(y, 3) for x, y in line.points if x > 0.5} == {0.1}
