"""The server's description in OpenAPI 3.1, for programs that ask it."""

from collections.abc import Sequence
from typing import Any

from lightning_seg import __version__
from lightning_seg.serve._answer import PARTS

_PNG = {"type": "string", "contentEncoding": "base64"}
_PERCENT = _PNG | {"description": "grey PNG, in percent, rounded up: 50 is a probability of 0.5"}
_NOTE = {"type": "string", "description": "what the masks may be wrong in; empty: nothing known"}
_NUMBER, _TEXT, _COUNT = {"type": "number"}, {"type": "string"}, {"type": "integer", "minimum": 0}
OPTIONS = {  # behind the ``?`` of POST /api/predict
    "class": "of the mask, where a PNG is accepted",
    "include": f"further parts of JSON, with commas, of {', '.join(PARTS)}",
    "name": "of the picture, where the body is the picture itself",
}
_MAYBE = {"type": ["number", "null"]}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": _TEXT},
    "additionalProperties": False,
}
_REFUSALS = {
    "400": "what was sent cannot be predicted",
    "403": "a foreign page, or a name that is not this server's",
    "413": "too many bytes or pixels",
    "415": "no picture",
    "500": "the network gives no numbers",
    "503": "too many pictures at once, or too little time or memory",
}


def description(classes: Sequence[str], with_token: bool) -> dict[str, Any]:
    """What ``GET /openapi.json`` answers.

    Args:
        classes: names of the masks.
        with_token: whether requests must bring one.
    """
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "lightning-seg serve", "version": __version__},
        "paths": {
            "/health": {"get": _operation("whether the server answers", _HEALTH, {"403"})},
            "/api/model": {"get": _operation("the facts of the model", _MODEL, {"403"})},
            "/openapi.json": {"get": _operation("this description", {"type": "object"}, {"403"})},
            "/api/predict": {"post": _predict(classes)},
        },
    }
    if with_token:
        found["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        for path, operations in found["paths"].items():
            for operation in operations.values():
                if path != "/health":
                    operation["security"] = [{"token": []}]
                    operation["responses"]["401"] = _refusal("the token is not there or another")
    return found


def _predict(classes: Sequence[str]) -> dict[str, Any]:
    operation = _operation("the masks of a picture", _PREDICTION, set(_REFUSALS))
    ok = operation["responses"]["200"]
    ok["content"]["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary"}},
    }
    operation["requestBody"] = {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
    operation["parameters"] = [
        _query(name, {"enum": list(classes)} if name == "class" else _TEXT, text)
        for name, text in OPTIONS.items()
    ]
    return operation


def _operation(summary: str, schema: dict[str, Any], refusals: set[str]) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": summary, "content": {"application/json": {"schema": schema}}}
    }
    for status in sorted(refusals):
        responses[status] = _refusal(_REFUSALS[status])
    return {"summary": summary, "responses": responses}


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": _ERROR}}}


def _query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": sorted(properties), "properties": properties}


_CLASS = _object(
    name=_TEXT,
    colour=_TEXT,
    area=_COUNT,
    share=_NUMBER,
    components=_COUNT,
    confidence=_MAYBE,
    expected_dice=_NUMBER,
    expected_area=_NUMBER,
    mask=_PNG,
)
# only where the checkpoint holds a guarantee of them
_CLASS["properties"] |= {"outer": _PNG, "inner": _PNG}
# what `include` asks for
_CLASS["properties"]["probability"] = _PERCENT
_PREDICTION = _object(
    file=_TEXT,
    width=_COUNT,
    height=_COUNT,
    seconds=_NUMBER,
    threshold={},
    postprocess=_TEXT,
    note=_NOTE,
    classes={"type": "array", "items": _CLASS},
)
# only where pictures were before it
_PREDICTION["properties"] |= {"waited": _NUMBER, "ahead": _COUNT}
_HEALTH = _object(status={"const": "ok"})
_MODEL = _object(
    name=_TEXT,
    architecture=_TEXT,
    classes={"type": "array"},
    size={"type": ["integer", "null"]},
    channels=_COUNT,
    checkpoints={"type": "array", "items": _TEXT},
    guarantee={"type": "array", "items": _TEXT},
    scores={"type": "array"},
    notice=_TEXT,
    version=_TEXT,
)
