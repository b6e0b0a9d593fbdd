"""What is sent back: masks, probabilities and an overlay as PNG and JPEG, and what they show in
numbers."""

import base64
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lightning_seg.data.show import COLOURS
from lightning_seg.errors import InputError
from lightning_seg.inference.pictures import overlay, with_contours
from lightning_seg.inference.prediction import Prediction
from lightning_seg.inference.predictor import Predictor
from lightning_seg.models.frame.normalization import NotFiniteError
from lightning_seg.serve._limits import Limits, RequestError
from lightning_seg.serve._upload import Upload, read_upload

PARTS = ("probability", "overlay", "picture")  # sent on request
_STEPS = (np.arange(101) / 100).astype(np.float32)


def page_colour(place: int) -> str:
    """The colour of the class at ``place``, as CSS has it."""
    return "#{:02x}{:02x}{:02x}".format(*COLOURS[place % len(COLOURS)])


def predict_upload(
    predictor: Predictor, upload: Upload, limits: Limits
) -> tuple[np.ndarray, Prediction]:
    """The picture (H, W, C) uint8 and what the network finds in it; RequestError where it cannot
    be predicted."""
    try:
        form = predictor.network.trained.picture
        picture = read_upload(upload, form, limits)
        [prediction] = predictor.predict_read([picture])
        doubt = form.doubt(Path(upload.name), picture, upload.content)
        return picture, replace(prediction, note=doubt) if doubt else prediction
    except MemoryError:
        raise RequestError(
            503, f"{upload.name} is too large for the memory; send a smaller one.", 30
        ) from None
    except NotFiniteError as error:  # not the picture's fault
        raise RequestError(500, str(error)) from error
    except InputError as error:
        raise RequestError(400, str(error)) from error


def mask_png(predictor: Predictor, upload: Upload, limits: Limits, name: str) -> tuple[bytes, str]:
    """The mask of the class ``name``, PNG, where 255 is the class; what it may be wrong in."""
    _, prediction = predict_upload(predictor, upload, limits)
    return _png(prediction.mask[prediction.classes.index(name)]), prediction.note


def as_json(
    predictor: Predictor, upload: Upload, limits: Limits, parts: Collection[str]
) -> dict[str, Any]:
    """All about a picture; images are PNG (overlay and picture JPEG) in base64. ``parts``: of
    ``PARTS``."""
    start = time.perf_counter()
    picture, prediction = predict_upload(predictor, upload, limits)
    seconds = time.perf_counter() - start
    planes = zip(prediction.findings(), prediction.mask, prediction.probability, strict=True)
    classes = [
        {
            "name": found.name,
            "colour": page_colour(place),
            "area": found.area,
            "share": found.share,
            "components": found.components,
            "confidence": found.confidence,
            "expected_dice": found.expected_dice,
            "expected_area": float(probability.sum(dtype=np.float64)),
            "mask": _text(_png(mask)),
            **{kind: _text(_png(masks[place])) for kind, masks in prediction.contours.items()},
            **(
                {"probability": _text(_encoded(".png", levels(probability)))}
                if "probability" in parts
                else {}
            ),
        }
        for place, (found, mask, probability) in enumerate(planes)
    ]
    height, width = picture.shape[:2]
    rule = predictor.rule
    answer = {"file": upload.name, "width": width, "height": height, "seconds": round(seconds, 4)}
    answer |= {
        "threshold": rule.threshold,
        "postprocess": rule.postprocess,
        "note": prediction.note,
        "classes": classes,
    }
    if "picture" in parts:
        answer["picture"] = _text(_encoded(".jpg", picture[..., ::-1]))
    if "overlay" in parts:
        drawn = overlay(
            torch.from_numpy(picture.transpose(2, 0, 1)), torch.from_numpy(prediction.mask)
        )
        drawn = with_contours(drawn, prediction.contours)
        answer["overlay"] = _text(_encoded(".jpg", drawn[..., ::-1]))
    return answer


def levels(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W) in percent, rounded up: ``level > k`` exactly where ``probability > k / 100``, for
    whole k."""
    found = np.empty(probability.shape, np.uint8)
    for row, into in zip(
        probability, found, strict=True
    ):  # by rows: positions take 8 bytes a pixel
        into[:] = np.searchsorted(_STEPS, row)
    return found


def _png(mask: NDArray[np.bool_]) -> bytes:
    return _encoded(".png", mask.astype(np.uint8) * 255)


def _encoded(suffix: str, picture: np.ndarray) -> bytes:
    ok, content = cv2.imencode(suffix, np.ascontiguousarray(picture))
    assert ok, suffix
    return content.tobytes()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
