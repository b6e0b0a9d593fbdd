"""The measures of polyp segmentation, which come from salient object detection.

Reference: PySODMetrics. All take a probability map (H, W) that is stretched to [0, 1] (`stretch`),
as PySODMetrics and PraNet's evaluation do, and the truth (H, W). They were made for images that
hold an object: where the truth is empty, `weighted_f` and the Dice and IoU of `threshold_curves`
are 0 whatever the prediction (as in the published code), `s_measure` is 1 - mean and `e_measure`
the share of background.
"""

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]  # (H, W) in [0, 1]
Mask = NDArray[np.bool_]  # (H, W)
LEVELS = 256
_EPS = np.spacing(1)


def stretch(probability: NDArray[np.floating]) -> Map:
    """The map with its own minimum at 0 and maximum at 1; a constant one as it is."""
    values = np.asarray(probability, dtype=np.float64)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else values


def s_measure(stretched: Map, truth: Mask) -> float:
    """Structure measure: half likeness of object and background, half that of four quadrants.

    Fan et al. 2017.
    """
    share = truth.mean()
    if share in (0.0, 1.0):
        return float(abs(1 - share - stretched.mean()))
    foreground = _object(stretched[truth])
    background = _object(1 - stretched[~truth])
    objects = share * foreground + (1 - share) * background
    return max(0.0, float(objects + _quadrants(stretched, truth)) / 2)


def _object(values: NDArray[np.float64]) -> float:
    deviation = values.std(ddof=1) if values.size > 1 else 0.0
    mean = values.mean()
    return float(2 * mean / (mean**2 + 1 + deviation + _EPS))


def _quadrants(stretched: Map, truth: Mask) -> float:
    """Structural similarity of the quadrants around the truth's centre, weighted by areas."""
    rows, columns = truth.sum(1), truth.sum(0)
    y, x = _centre(rows), _centre(columns)
    total = 0.0
    for part in (
        (slice(0, y), slice(0, x)),
        (slice(0, y), slice(x, None)),
        (slice(y, None), slice(0, x)),
        (slice(y, None), slice(x, None)),
    ):
        if truth[part].size:
            share = truth[part].size / truth.size
            total += share * _similarity(stretched[part], truth[part])
    return total


def _centre(pixels: NDArray[np.int64]) -> int:
    """The end of the first half of an axis, of which each place holds so many pixels."""
    places = np.arange(len(pixels))
    return int(np.round(pixels @ places / pixels.sum())) + 1


def _similarity(a: Map, b: Mask) -> float:
    freedom = a.size - 1 + _EPS
    x, y = a.mean(), b.mean()
    variances = (((a - x) ** 2).sum() + ((b - y) ** 2).sum()) / freedom
    alpha = 4 * x * y * ((a - x) * (b - y)).sum() / freedom
    beta = (x**2 + y**2) * variances
    if alpha != 0:
        return float(alpha / (beta + _EPS))
    return 1.0 if beta == 0 else 0.0


def threshold_counts(stretched: Map, truth: Mask) -> NDArray[np.int64]:
    """(2, 256) pixels at or above k / 255 for k = 255 ... 0: true positives, false positives."""
    levels = (stretched * (LEVELS - 1)).astype(np.intp) + LEVELS * ~truth
    pixels = np.bincount(levels.ravel(), minlength=2 * LEVELS).reshape(2, LEVELS)
    return pixels[:, ::-1].cumsum(1)


def threshold_curves(
    counts: NDArray[np.int64], foreground: int, pixels: int
) -> NDArray[np.float64]:
    """(3, 256) Dice, IoU and E-measure at each threshold of `threshold_counts`.

    PraNet's meanDic averages the first.
    """
    tp, fp = counts
    union = np.maximum(foreground + fp, 1)
    return np.stack(
        [
            2 * tp / np.maximum(foreground + tp + fp, 1),
            tp / union,
            e_measure(tp, fp, foreground, pixels),
        ]
    )


def e_measure(
    tp: NDArray[np.int64],
    fp: NDArray[np.int64],
    foreground: int,
    pixels: int,
) -> NDArray[np.float64]:
    """Enhanced-alignment measure of binary maps, from their counts. Fan et al. 2018."""
    positive = tp + fp
    if foreground == 0:
        total = (pixels - positive).astype(np.float64)
    elif foreground == pixels:
        total = positive.astype(np.float64)
    else:
        fn, p, t = foreground - tp, positive / pixels, foreground / pixels
        parts = (
            (tp, 1 - p, 1 - t),
            (fp, 1 - p, -t),
            (fn, -p, 1 - t),
            (pixels - positive - fn, -p, -t),
        )
        total = sum(
            number * (2 * a * b / (a * a + b * b + _EPS) + 1) ** 2 / 4 for number, a, b in parts
        )  # type: ignore
    return total / (pixels - 1 + _EPS)


def adaptive_e_measure(stretched: Map, truth: Mask) -> float:
    """`e_measure` at the threshold of twice the mean of the map, at most 1."""
    positive = stretched >= min(2 * stretched.mean(), 1.0)
    tp = np.array([(positive & truth).sum()])
    return float(e_measure(tp, positive.sum() - tp, int(truth.sum()), truth.size)[0])


def weighted_f(stretched: Map, truth: Mask) -> float:
    """Weighted F-measure: errors weigh by their distance from the object and by neighbours' errors.

    Margolin et al. 2014.
    """
    from scipy.ndimage import convolve1d, distance_transform_edt

    if not truth.any():
        return 0.0
    distance, nearest = distance_transform_edt(~truth, return_indices=True)
    error = np.abs(stretched - truth)
    spread = error[tuple(nearest)]  # outside the object: the error of its nearest pixel
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / 50.0)
    for axis in (0, 1):  # Gaussian of 7 x 7 with sigma 5
        spread = convolve1d(spread, kernel / kernel.sum(), axis=axis, mode="constant")
    least = np.where(truth & (spread < error), spread, error)
    weighted = least * np.where(truth, 1.0, 2 - np.exp(np.log(0.5) / 5 * distance))
    inside = weighted[truth].sum()
    tp, fp = truth.sum() - inside, weighted.sum() - inside
    recall, precision = 1 - inside / truth.sum(), tp / (tp + fp + _EPS)
    return float(2 * recall * precision / (recall + precision + _EPS))
