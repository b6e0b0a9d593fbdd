"""What a checkpoint may hold: types and ranges of all that is read of it, checked as a whole."""

import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from lightning_seg.data.reading.pictures import MOST_SIDE
from lightning_seg.models.frame.normalization import NetworkForm, Normalization

Rule = Callable[[Any], bool]
MOST_LETTERS = 10_000
MOST_DEPTH = 30
_LARGEST = 2**62


class SchemaError(ValueError):
    """What a checkpoint holds in a place where something else belongs; one half of a sentence."""


def check_archive(path: Path, whole: bool) -> None:
    """SchemaError for a file that would unfold into more than it holds, before it is opened.

    Args:
        whole: whether its weights are looked at too, whose checksums torch passes over.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
            if packed or sum(part.file_size for part in parts) > path.stat().st_size:
                raise SchemaError("its parts claim more bytes than the file has")
            damaged = archive.testzip() if whole else None
    except SchemaError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise SchemaError("it is no archive as torch.save writes them, or was cut off") from error
    if damaged is not None:
        raise SchemaError("it was damaged: the checksum of one of its parts is wrong")


def check_content(content: Any) -> None:
    """SchemaError for the first thing in a checkpoint that has another type or range."""
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SchemaError("it holds no named parts")
    for name in ("state_dict", "hyper_parameters"):
        if not isinstance(content.get(name), dict):
            raise SchemaError(f"it has no {name}")
    _check_weights(content["state_dict"])
    for part, rules in _SCHEMA.items():
        if part not in content:
            continue
        given = content[part]
        if not isinstance(given, dict):
            raise SchemaError(f"its {part} are {_shown(given)}, not named values")
        _check_plain(given, part, 0)
        for name in _NEEDED.get(part, ()):
            if name not in given:
                raise SchemaError(f"its {part} lack {name!r}")
        for name, (rule, wanted) in rules.items():
            if name in given and not rule(given[name]):
                raise SchemaError(f"{name} in its {part} is {_shown(given[name])}, not {wanted}")
    for name, (rule, wanted) in _TOP.items():
        if name in content and not rule(content[name]):
            raise SchemaError(f"its {name} is {_shown(content[name])}, not {wanted}")
    _check_guarantee(content)


def _check_guarantee(content: Mapping[str, Any]) -> None:
    """SchemaError for a guarantee of other classes than the network has."""
    promised = content.get("lightning_seg", {}).get("guarantee")
    ours = content["hyper_parameters"].get("classes", NetworkForm.classes)
    if promised is not None and len(promised["classes"]) != len(ours):
        raise SchemaError(
            f"its guarantee is of {len(promised['classes'])} classes, its network of {len(ours)}"
        )


def _check_weights(state: Mapping[Any, Any]) -> None:
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise SchemaError(f"among its weights is {_shown(name)}, no tensor with a name")
        plain = value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.is_quantized or value.is_complex():
            raise SchemaError(f"its weight {name[:100]!r} is no plain tensor of real numbers")


def _check_plain(value: Any, name: str, depth: int) -> None:
    """SchemaError for what is no plain value, or deeper, longer or larger than settings are."""
    if depth > MOST_DEPTH:
        raise SchemaError(f"its {name} holds more than {MOST_DEPTH} levels within each other")
    if isinstance(value, dict):
        for key, part in value.items():
            _check_plain(key, name, depth + 1)
            _check_plain(part, name, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            _check_plain(part, name, depth + 1)
    elif isinstance(value, str):
        if len(value) > MOST_LETTERS:
            raise SchemaError(f"its {name} holds a text of {len(value):,} letters")
    elif isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > _LARGEST:
            raise SchemaError(f"its {name} holds a number of {len(str(value))} digits")
    elif not isinstance(value, bool | float | None):
        raise SchemaError(f"its {name} holds a {type(value).__name__}, no plain value")


def _shown(value: Any) -> str:
    text = " ".join(repr(value)[:1000].split())
    return text if len(text) <= 80 else f"{text[:77]}..."


# --- rules: each says whether a value may stand there ---


def _number(lowest: int, highest: int = _LARGEST) -> Rule:
    def holds(value: Any) -> bool:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and lowest <= value <= highest

    return holds


def _optional(rule: Rule) -> Rule:
    return lambda value: value is None or rule(value)


def _list_of(rule: Rule) -> Rule:
    return lambda value: isinstance(value, list | tuple) and all(map(rule, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _are_classes(value: Any) -> bool:
    named = _list_of(_is_name)(value) and 0 < len(value) <= 1000
    return named and len(set(value)) == len(value)


def _is_threshold(value: Any) -> bool:
    """The threshold that was chosen on the validation split, with its Dice."""
    known = _is_mapping(value) and {"value", "dice"} <= set(value)
    return known and _is_real(value["value"]) and 0 < value["value"] < 1


def _is_part(value: Any) -> bool:
    return _is_real(value) and 0 <= value <= 1


def _is_share(value: Any) -> bool:
    return _is_real(value) and math.isfinite(value) and value >= 0


def _is_sitting(value: Any) -> bool:
    kinds = (str, int, int)
    if not isinstance(value, list | tuple) or len(value) != len(kinds):
        return False
    return all(isinstance(part, kind) for part, kind in zip(value, kinds, strict=True))


def _is_lineage(value: Any) -> bool:
    return _list_of(_is_sitting)(value) and len(value) > 0


def _are_images(value: Any) -> bool:
    return _is_mapping(value) and {"train", "val"} <= set(value) and all(map(_IDS, value.values()))


def _is_calibration(value: Any) -> bool:
    lists = value is None or (_is_mapping(value) and all(map(_list_of(_is_real), value.values())))
    return lists and all(math.isfinite(one) for part in (value or {}).values() for one in part)


def _is_bound(value: Any) -> bool:
    """Thresholds of one kind of guaranteed masks, one for each class."""
    if not _is_mapping(value) or set(value) != {"rate", "thresholds", "units", "risks"}:
        return False
    lists = [value[name] for name in ("thresholds", "risks", "units")]
    numbers = all(_list_of(_is_part)(each) for each in lists[:2])
    counts = _list_of(_number(1))(value["units"])
    return numbers and counts and _is_part(value["rate"]) and len(set(map(len, lists))) == 1


def _is_guarantee(value: Any) -> bool:
    kinds = ("outer", "inner")
    texts = ("protocol", "protocol_digest")
    others = {"classes", "images", "grouped"}
    if not _is_mapping(value) or set(value) != {*kinds, *texts, *others}:
        return False
    bounds = [value[kind] for kind in kinds if value[kind] is not None]
    fitting = all(_is_bound(one) and len(one["units"]) == len(value["classes"]) for one in bounds)
    known = _are_classes(value["classes"]) and all(_is_text(value[name]) for name in texts)
    counted = _number(0)(value["images"]) and _is_flag(value["grouped"])
    return bool(bounds) and known and fitting and counted


_IDS = _list_of(_is_text)
_NAMES = get_args(Normalization)
_TEXT = (_is_text, "a text")
_MAYBE_TEXT = (_optional(_is_text), "a text or null")
_MAYBE_REAL = (_optional(_is_real), "a number or null")
_MAYBE_MAPPING = (_optional(_is_mapping), "a mapping or null")
_COUNT = (_number(0), "a whole number from 0")
_FLAG = (_is_flag, "true or false")
_SHARE = (_is_share, "a number from 0")

_NEEDED = {
    "hyper_parameters": ("architecture",),
    "datamodule_hyper_parameters": ("dataset",),
}
_SCHEMA: dict[str, dict[str, tuple[Rule, str]]] = {
    "hyper_parameters": {
        "architecture": (_is_name, "the name of a network"),
        "encoder": (_optional(_is_name), "the name of an encoder or null"),
        "pretrained": _FLAG,
        "options": _MAYBE_MAPPING,
        "encoder_options": _MAYBE_MAPPING,
        "classes": (_are_classes, "a list of different names"),
        "in_channels": (_number(1, 4096), "a whole number from 1 to 4096"),
        "normalization": (lambda value: value in _NAMES, f"one of {', '.join(_NAMES)}"),
        "loss": _MAYBE_MAPPING,
        "exclusive": _FLAG,
        "calibration": (_is_calibration, "lists of finite numbers, scale and shift, or null"),
        "lr": _SHARE,
        "weight_decay": _SHARE,
    },
    "datamodule_hyper_parameters": {
        "dataset": (_is_name, "the name of a data set"),
        "root": _MAYBE_TEXT,
        "protocol": _MAYBE_TEXT,
        "size": (_optional(_number(1, MOST_SIDE)), f"a whole number from 1 to {MOST_SIDE} or null"),
        "crop": (
            _optional(_number(16, MOST_SIDE)),
            f"a whole number from 16 to {MOST_SIDE} or null",
        ),
        "crop_overlap": (lambda value: _is_share(value) and value < 1, "a share below 1"),
        "batch_size": (_number(1, 2**31), "a whole number from 1"),
        "copies": (_number(1, 2**31), "a whole number from 1"),
        "seed": (_number(0, 2**32 - 1), "a whole number from 0 to 4294967295"),
        "num_workers": (_optional(_number(0, 512)), "a whole number from 0 to 512 or null"),
        "online": _FLAG,
        "dataset_options": _MAYBE_MAPPING,
        "cache": _MAYBE_TEXT,
    },
    "lightning_seg": {
        "protocol": _MAYBE_TEXT,
        "protocol_digest": _MAYBE_TEXT,
        "precision": _TEXT,
        "encoder_weights": (_is_mapping, "a mapping"),
        "trained_on": (_IDS, "a list of ids"),
        "images": (_optional(_are_images), "digests of train and val"),
        "truths": (_optional(_are_images), "digests of train and val"),
        "steps": (_is_mapping, "a mapping"),
        "changes": (_IDS, "a list of texts"),
        "decoders": _TEXT,
        "channels": _TEXT,
        "guarantee": (_optional(_is_guarantee), "thresholds with their promise, or null"),
        "threshold": (_optional(_is_threshold), "a threshold from 0 to 1 with its Dice, or null"),
    },
    "run": {
        "role": _TEXT,
        "monitor": _TEXT,
        "mode": _TEXT,
        "value": _MAYBE_REAL,
        "best_value": _MAYBE_REAL,
        "best_name": _TEXT,
        "lineage": (_is_lineage, "a list of sittings"),
    },
}
_TOP: dict[str, tuple[Rule, str]] = {
    "epoch": _COUNT,
    "global_step": _COUNT,
    "pytorch-lightning_version": _TEXT,
    "callbacks": (lambda value: isinstance(value, dict), "a mapping"),
    "loops": (_is_mapping, "a mapping"),
    "optimizer_states": (_list_of(_is_mapping), "a list of mappings"),
    "lr_schedulers": (_list_of(_is_mapping), "a list of mappings"),
}
