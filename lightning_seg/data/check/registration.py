"""How alike two pictures are once one is laid over the other: what tells one picture from two
frames of one video.

The detail of both (a band of spatial frequencies) is correlated block by block, and the median
taken, so that text, insets and highlights do not count. First under an affine map: a copy, cropped,
scaled, turned or compressed again, has nearly all of its detail in place. Then under the optical
flow that remains: frames of one view a second apart match only so, and unrelated pictures not even
so.
"""

from typing import NamedTuple

import cv2
import numpy as np

from lightning_seg.data.check.views import View

FEATURES = 400  # SIFT points of a picture
_RATIO = 0.85  # Lowe's test: best distance to second best
_INLIERS = 6  # matches at distinct places that agree on one affine map
_EDGE = 15  # pixels that are kept from the edge of the content, which stands still in every video
_LEAST_BLOCKS = 8
# Likeness at half the size from which two pictures are compared in full. Of Kvasir-SEG, three
# quarters of the candidates lie below it, and every pair of one view at .23 or above.
_PROMISING = 0.15


class _Grid(NamedTuple):
    """Square blocks that overlap: their side, and the distance from one to the next, in pixels."""

    block: int
    stride: int


_FULL, _HALF = _Grid(32, 8), _Grid(16, 4)


class Features(NamedTuple):
    """points: (N, 2) float32, x and y. descriptors: (N, 128) uint8, or float32 as `rooted` gives
    them."""

    points: np.ndarray
    descriptors: np.ndarray


class Likeness(NamedTuple):
    """detail: median correlation of the blocks after optical flow, -1 to 1. strain: median
    |gradient| of that flow, which is 0 for one picture. overlap: the common share of the content of
    the picture that shares less. blocks: their number."""

    detail: float
    strain: float
    overlap: float
    blocks: int


def features(picture: View) -> Features:
    """SIFT features, the strongest first."""
    grey = picture.grey
    inside = 255 * cv2.erode(lit(grey), np.ones((9, 9), np.uint8))
    keypoints, descriptors = cv2.SIFT.create(FEATURES, contrastThreshold=0.02).detectAndCompute(
        grey, inside
    )
    order = np.argsort([-point.response for point in keypoints], kind="stable")
    points = np.array([point.pt for point in keypoints], np.float32).reshape(-1, 2)[order]
    if descriptors is None:
        return Features(points, np.zeros((0, 128), np.uint8))
    return Features(points, descriptors[order].astype(np.uint8))


def mirrored(found: Features) -> Features:
    """The features of the mirror image, their points in the coordinates of the picture itself.

    A descriptor holds histograms of 8 directions in 4 x 4 fields along and across the feature's own
    direction: a mirror exchanges the fields across it, and turns the directions the other way.
    """
    fields = found.descriptors.reshape(-1, 4, 4, 8)
    turned = fields[:, ::-1][..., -np.arange(8) % 8]
    return Features(found.points, turned.reshape(-1, 128))


def negated(found: Features) -> Features:
    """The features of the negative of a picture.

    All gradients point the other way, and so does the direction of each feature, by which its
    fields and directions are counted: the fields lie turned by half, the directions as before.
    """
    fields = found.descriptors.reshape(-1, 4, 4, 8)
    return Features(found.points, fields[:, ::-1, ::-1].reshape(-1, 128))


def affine_map(first: Features, second: Features) -> np.ndarray | None:
    """(2, 3) map of the first picture's coordinates to the second's, of `rooted` features; None
    where no six matches agree on one."""
    if min(len(first.points), len(second.points)) < _INLIERS:
        return None
    likeness = first.descriptors @ second.descriptors.T
    best, rows = likeness.argmax(axis=1), np.arange(len(likeness))
    first_value = likeness[rows, best]
    likeness[rows, best] = -1
    clear = 2 - 2 * first_value < _RATIO**2 * (2 - 2 * likeness.max(axis=1))  # squared distances
    if clear.sum() < _INLIERS:
        return None
    ours, theirs = first.points[clear], second.points[best[clear]]
    matrix, inliers = cv2.estimateAffine2D(ours, theirs, ransacReprojThreshold=3, maxIters=500)
    if matrix is None or len(np.unique(theirs[inliers.ravel() > 0].round(), axis=0)) < _INLIERS:
        return None
    large, small = np.linalg.svd(matrix[:, :2])[1]
    return matrix if small > 0.25 and large < 4 and large < 1.6 * small else None


def lit(grey: np.ndarray) -> np.ndarray:
    """(h, w) uint8, 1 where there is a picture: not the dark frame around it."""
    return (cv2.blur(grey, (5, 5)) > min(40.0, 0.6 * float(grey.mean()))).astype(np.uint8)


def rooted(found: Features) -> Features:
    """Features with descriptors of unit length, whose products are likenesses (Arandjelovic and
    Zisserman, CVPR 2012)."""
    values = found.descriptors.astype(np.float32)
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    return Features(found.points, np.sqrt(shares))


def compare_views(first: View, second: View, matrix: np.ndarray) -> Likeness:
    """The likeness of two pictures, the first being laid over the second by ``matrix`` (2, 3)."""
    height, width = second.grey.shape
    laid = cv2.warpAffine(first.grey, matrix, (width, height))
    content, theirs = lit(first.grey), lit(second.grey)
    ours = cv2.warpAffine(content, matrix, (width, height))
    both = cv2.erode(ours & theirs, np.ones((_EDGE, _EDGE), np.uint8), borderValue=0)
    enlarged = abs(float(np.linalg.det(matrix[:, :2])))
    overlap = float((ours & theirs).sum()) / max(
        float(content.sum()) * enlarged, float(theirs.sum()), 1.0
    )
    if both.sum() < _LEAST_BLOCKS * _FULL.stride**2:
        return Likeness(0.0, 1.0, overlap, 0)
    flow = _flow(second.grey, laid, cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    detail, blocks = _agreement(_flowed(laid, flow), second.grey, both, _FULL)
    return Likeness(detail, _strain(flow, both), overlap, blocks)


def may_agree(first: View, second: View, matrix: np.ndarray) -> bool:
    """Tell whether `compare_views` is worth its time: the same at half the size, with a coarser
    flow."""
    ours, theirs = _halved(first.grey), _halved(second.grey)
    to_half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    square = np.vstack([matrix, [0, 0, 1]])
    matrix = (to_half @ square @ np.linalg.inv(to_half))[:2]
    size = theirs.shape[::-1]
    laid = cv2.warpAffine(ours, matrix, size)
    both = cv2.warpAffine(lit(ours), matrix, size) & lit(theirs)
    flow = _flow(theirs, laid, cv2.DISOPTICAL_FLOW_PRESET_FAST)
    detail, _ = _agreement(_flowed(laid, flow), theirs, both, _HALF)
    return detail >= _PROMISING


def _halved(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _flow(target: np.ndarray, picture: np.ndarray, preset: int) -> np.ndarray:
    """(h, w, 2): where in ``picture`` the pixels of ``target`` are found."""
    return cv2.DISOpticalFlow.create(preset).calc(target, picture, None)  # type: ignore


def _flowed(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The picture after its optical flow."""
    height, width = picture.shape
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2)
    grid = places.astype(np.float32) + flow
    return cv2.remap(picture, grid, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]


def _strain(flow: np.ndarray, inside: np.ndarray) -> float:
    gradients = [cv2.Sobel(flow, cv2.CV_32F, *order, ksize=3) / 8 for order in ((1, 0), (0, 1))]
    return float(np.median(np.sqrt(sum((part**2).sum(axis=2) for part in gradients))[inside > 0]))


def _agreement(
    first: np.ndarray,
    second: np.ndarray,
    inside: np.ndarray,
    grid: _Grid,
) -> tuple[float, int]:
    """Median correlation of the details of two pictures, over blocks that lie inside and are not
    flat; their number."""
    weight = inside.astype(np.float32)
    share = _block_means(weight, grid)
    safe = np.maximum(share, 1e-3)
    a, b = (_detail(picture) * weight for picture in (first, second))
    mean_a, mean_b = _block_means(a, grid) / safe, _block_means(b, grid) / safe
    var_a, var_b = (
        _block_means(a * a, grid) / safe - mean_a**2,
        _block_means(b * b, grid) / safe - mean_b**2,
    )
    covariance = _block_means(a * b, grid) / safe - mean_a * mean_b
    use = (share > 0.7) & (np.minimum(var_a, var_b) > 0.25)
    if use.sum() < _LEAST_BLOCKS:
        return 0.0, 0
    return float(np.median(covariance[use] / np.sqrt(var_a[use] * var_b[use]))), int(use.sum())


def _detail(picture: np.ndarray) -> np.ndarray:
    """Differences of Gaussians: neither the noise of single pixels nor the lighting."""
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.8)
    return smooth - cv2.GaussianBlur(smooth, (0, 0), 4)


def _block_means(values: np.ndarray, grid: _Grid) -> np.ndarray:
    """The mean of each block."""
    size = (grid.block, grid.block)
    means = cv2.boxFilter(values, -1, size, borderType=cv2.BORDER_CONSTANT)
    return means[:: grid.stride, :: grid.stride]
