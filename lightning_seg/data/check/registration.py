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
_BLOCK, _STRIDE, _LEAST_BLOCKS = 32, 8, 8  # a grid of blocks that overlap


class Features(NamedTuple):
    """points: (N, 2) float32, x and y. descriptors: (N, 128) uint8."""

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


def features(picture: View, mirrored: bool) -> Features:
    """SIFT features; ``mirrored``: those of the mirror image, their points in the coordinates of
    the picture itself."""
    grey = picture.grey[:, ::-1].copy() if mirrored else picture.grey
    inside = 255 * cv2.erode(lit(grey), np.ones((9, 9), np.uint8))
    keypoints, descriptors = cv2.SIFT.create(FEATURES, contrastThreshold=0.02).detectAndCompute(
        grey, inside
    )
    order = np.argsort(
        [-point.response for point in keypoints], kind="stable"
    )  # the strongest first
    points = np.array([point.pt for point in keypoints], np.float32).reshape(-1, 2)[order]
    if mirrored:
        points[:, 0] = grey.shape[1] - 1 - points[:, 0]
    return Features(
        points,
        np.zeros((0, 128), np.uint8)
        if descriptors is None
        else descriptors[order].astype(np.uint8),
    )


def affine_map(first: Features, second: Features) -> np.ndarray | None:
    """(2, 3) map of the first picture's coordinates to the second's; None where no six matches
    agree on one."""
    if min(len(first.points), len(second.points)) < _INLIERS:
        return None
    likeness = root(first.descriptors) @ root(second.descriptors).T
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


def root(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors (N, 128) float32 of unit length, whose products are likenesses (Arandjelovic and
    Zisserman, CVPR 2012)."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1))


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
    if both.sum() < _LEAST_BLOCKS * _STRIDE**2:
        return Likeness(0.0, 1.0, overlap, 0)
    flow = _flow(second.grey, laid)
    grid = (
        np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2).astype(np.float32) + flow
    )
    moved = cv2.remap(laid, grid, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
    detail, blocks = _agreement(moved, second.grey, both)
    return Likeness(detail, _strain(flow, both), overlap, blocks)


def _flow(target: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """(h, w, 2): where in ``picture`` the pixels of ``target`` are found."""
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(target, picture, None)  # type: ignore


def _strain(flow: np.ndarray, inside: np.ndarray) -> float:
    gradients = [cv2.Sobel(flow, cv2.CV_32F, *order, ksize=3) / 8 for order in ((1, 0), (0, 1))]
    return float(np.median(np.sqrt(sum((part**2).sum(axis=2) for part in gradients))[inside > 0]))


def _agreement(
    first: np.ndarray,
    second: np.ndarray,
    inside: np.ndarray,
) -> tuple[float, int]:
    """Median correlation of the details of two pictures, over blocks that lie inside and are not
    flat; their number."""
    weight = inside.astype(np.float32)
    share = _block_means(weight)
    safe = np.maximum(share, 1e-3)
    a, b = (_detail(picture) * weight for picture in (first, second))
    mean_a, mean_b = _block_means(a) / safe, _block_means(b) / safe
    var_a, var_b = _block_means(a * a) / safe - mean_a**2, _block_means(b * b) / safe - mean_b**2
    covariance = _block_means(a * b) / safe - mean_a * mean_b
    use = (share > 0.7) & (np.minimum(var_a, var_b) > 0.25)
    if use.sum() < _LEAST_BLOCKS:
        return 0.0, 0
    return float(np.median(covariance[use] / np.sqrt(var_a[use] * var_b[use]))), int(use.sum())


def _detail(picture: np.ndarray) -> np.ndarray:
    """Differences of Gaussians: neither the noise of single pixels nor the lighting."""
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.8)
    return smooth - cv2.GaussianBlur(smooth, (0, 0), 4)


def _block_means(values: np.ndarray) -> np.ndarray:
    """Block means, one in ``_STRIDE`` pixels."""
    return cv2.boxFilter(values, -1, (_BLOCK, _BLOCK), borderType=cv2.BORDER_CONSTANT)[
        ::_STRIDE, ::_STRIDE
    ]
