"""Search spaces: dotted keys of the command line with their ranges, read from YAML, checked,
sampled, and turned into overrides.

model.lr: {float: [1.0e-5, 1.0e-2], log: true}
data.batch_size: {int: [8, 32], step: 8}
model.options.skip: {categorical: [null, dca], if: {model.architecture: [unet, resunet]}}
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from lightning_seg.errors import InputError, unknown
from lightning_seg.files.documents import read_yaml
from lightning_seg.files.shipped import find_shipped

_KINDS = ("float", "int", "categorical")


@dataclass(frozen=True)
class Parameter:
    """One dimension of a space; ``condition`` maps other keys to the values under which it
    exists."""

    key: str
    distribution: BaseDistribution
    condition: dict[str, list[Any]] = field(default_factory=dict)


def read_space(path: str | Path) -> dict[str, Any]:
    """The content of a space file; InputError where it is not one."""
    file = find_shipped("space", path)
    content = read_yaml(file)
    if not isinstance(content, dict) or not content:
        raise InputError(
            f"{file} is not a space; its top level must be keys such as model.lr: {{float: [1e-5, 1e-2]}}."
        )
    parameters(content)
    return content


def parameters(space: Mapping[str, Any]) -> list[Parameter]:
    """Every dimension, those that others depend on first; InputError where the space contradicts
    itself."""
    found = {key: _parameter(key, entry) for key, entry in space.items()}
    for key in found:
        for other in found:
            if other.startswith(f"{key}."):
                raise InputError(
                    f"the space holds {key!r} and, inside it, {other!r}; keep one of the two."
                )
    ordered: dict[str, Parameter] = {}
    while len(ordered) < len(found):
        ready = [
            p
            for k, p in found.items()
            if k not in ordered and all(c in ordered or c not in found for c in p.condition)
        ]
        if not ready:
            circle = ", ".join(sorted(set(found) - set(ordered)))
            raise InputError(f"the conditions of {circle} wait for each other; take one `if` away.")
        ordered |= {parameter.key: parameter for parameter in ready}
    for parameter in ordered.values():
        _check_condition(parameter, found)
    return list(ordered.values())


def _parameter(key: str, entry: Any) -> Parameter:
    if not isinstance(entry, dict) or len([kind for kind in _KINDS if kind in entry]) != 1:
        raise InputError(
            f"{key} of the space is {entry!r}; give one of float, int and categorical, as {{float: [1e-5, 1e-2]}}."
        )
    for name in entry:
        if name not in (*_KINDS, "log", "step", "if"):
            raise unknown(f"setting of {key} in the space", name, [*_KINDS, "log", "step", "if"])
    condition = entry.get("if") or {}
    if not isinstance(condition, dict):
        raise InputError(
            f"`if` of {key} is {condition!r}; give a key and its value, as {{model.architecture: unet}}."
        )
    values = {k: v if isinstance(v, list) else [v] for k, v in condition.items()}
    return Parameter(str(key), _distribution(key, entry), values)


def _distribution(key: str, entry: dict[str, Any]) -> BaseDistribution:
    log, step = bool(entry.get("log")), entry.get("step")
    if "categorical" in entry:
        choices = entry["categorical"]
        if not isinstance(choices, list) or not choices:
            raise InputError(f"categorical of {key} is {choices!r}; give a list of values.")
        names = [_name(choice) for choice in choices]
        if len(set(map(repr, names))) < len(names) or log or step is not None:
            raise InputError(
                f"categorical of {key} is {choices!r}; give distinct values, without log or step."
            )
        return CategoricalDistribution(names)
    kind = "int" if "int" in entry else "float"
    bounds = entry[kind]
    legal = (
        isinstance(bounds, list)
        and len(bounds) == 2
        and all(_is_number(value, kind) for value in bounds)
    )
    if not legal or bounds[0] > bounds[1]:
        raise InputError(
            f"{kind} of {key} is {bounds!r}; give [lowest, highest] as {kind}s (1.0e-5 in YAML, not 1e-5)."
        )
    if log and (bounds[0] <= 0 or step is not None):
        raise InputError(
            f"{key} has log: true from {bounds[0]}"
            + (" with a step" if step else "")
            + "; a log range starts above 0 and has no step."
        )
    try:
        if kind == "int":
            return IntDistribution(bounds[0], bounds[1], log=log, step=step or 1)
        return FloatDistribution(float(bounds[0]), float(bounds[1]), log=log, step=step)
    except (ValueError, TypeError) as error:
        raise InputError(f"{key} of the space does not work: {error}") from error


def _is_number(value: Any, kind: str) -> bool:
    return isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)


def _name(choice: Any) -> Any:
    """Optuna's choices are scalars: a list or dictionary stands as JSON, which the command line
    reads as it is."""
    return (
        choice
        if choice is None or isinstance(choice, bool | int | float | str)
        else json.dumps(choice)
    )


def _check_condition(parameter: Parameter, found: Mapping[str, Parameter]) -> None:
    """A condition on another dimension must be able to hold."""
    for key, values in parameter.condition.items():
        distribution = found[key].distribution if key in found else None
        if isinstance(distribution, CategoricalDistribution):
            never = [value for value in values if _name(value) not in distribution.choices]
            if never:
                raise InputError(
                    f"{parameter.key} exists if {key} is {never[0]!r}, but {key} is one of {list(distribution.choices)}; "
                    "correct one of the two."
                )


def suggest(
    trial: Trial,
    space: Mapping[str, Any],
    base: Mapping[str, Any],
) -> dict[str, Any]:
    """Values of one trial: key -> value. ``base`` holds what conditions may ask of keys outside the
    space."""
    values: dict[str, Any] = {}
    for parameter in parameters(space):
        known = {**base, **values}
        if all(
            _name(known.get(key)) in map(_name, wanted)
            for key, wanted in parameter.condition.items()
        ):
            values[parameter.key] = trial._suggest(parameter.key, parameter.distribution)
    return values


def inside(
    space: Mapping[str, Any],
    found: Mapping[str, Any],
) -> dict[str, Any]:
    """Those values of ``found``, such as the recipe's own or those of another study, that lie
    inside the space."""
    values = {}
    for parameter in parameters(space):
        value = _name(found.get(parameter.key))  # what is not said is null: the default
        try:
            if parameter.distribution._contains(parameter.distribution.to_internal_repr(value)):
                values[parameter.key] = value
        except (ValueError, TypeError):
            continue
    return values


def corners(space: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Few sets of values in which every choice and every end of a range occurs: for checking them
    all."""
    ends = {p.key: (p, _ends(p.distribution)) for p in parameters(space)}
    for row in range(max(len(values) for _, values in ends.values())):
        yield {
            key: values[row % len(values)]
            for key, (parameter, values) in ends.items()
            if not parameter.condition
        }
    for key, (parameter, values) in ends.items():
        if parameter.condition:
            yield {
                **{other: wanted[0] for other, wanted in parameter.condition.items()},
                key: values[0],
            }


def _ends(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return [distribution.low, distribution.high]


def overrides(
    values: Mapping[str, Any],
    base: Mapping[str, Any],
) -> list[str]:
    """``["--model.lr", "0.001", ...]``. A key inside a dictionary, such as model.loss.dice, changes
    that of ``base``."""
    found: dict[str, Any] = {}
    for key, value in ((key, _round(value)) for key, value in values.items()):
        outer, (*path, last) = ".".join(key.split(".")[:2]), key.split(".")[2:] or [""]
        if not last:  # such as model.lr
            found[key] = value
            continue
        content = found.setdefault(outer, json.loads(json.dumps(base.get(outer) or {})))
        for part in path:
            content = content.setdefault(part, {})
        content[last] = json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value
    return flags(found)


def flags(values: Mapping[str, Any]) -> list[str]:
    """``{"model.lr": 0.001}`` -> ``["--model.lr", "0.001"]``."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()
    }
    return [part for key, text in texts.items() for part in (f"--{key}", text)]


def _round(value: Any) -> Any:
    """A number without its last digits, which are those of a step that binary numbers cannot hold:
    0.7000000000000001."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def flatten(
    config: Mapping[str, Any],
    prefix: str = "",
) -> dict[str, Any]:
    """A nested configuration as dotted keys, of its dictionaries too: {"model": {"lr": 1}} ->
    model, model.lr."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat[f"{prefix}{key}"] = value
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
    return flat
