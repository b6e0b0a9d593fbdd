"""Search spaces: read, checked, sampled, and turned into overrides of the command line."""

import json

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hpo.space import corners, flatten, inside, overrides, parameters, read_space, suggest
from lightning_seg.errors import InputError

SPACE = {
    "model.lr": {"float": [1e-4, 1e-1], "log": True},
    "data.batch_size": {"int": [8, 32], "step": 8},
    "model.options.widths": {
        "categorical": [[4, 8], [4, 8, 16]],
        "if": {"model.architecture": "unet"},
    },
    "model.architecture": {"categorical": ["unet", "resunet"]},
    "model.loss.dice": {"float": [0, 1], "step": 0.25},
}
BASE = flatten(
    {
        "model": {"loss": {"bce": 0.5, "dice": 0.5}, "options": None, "lr": 0.01},
        "data": {"batch_size": 12},
    }
)


def trials(number, space=SPACE, base=BASE):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [suggest(study.ask(), space, base) for _ in range(number)]


def test_each_entry_becomes_its_distribution():
    found = {parameter.key: parameter.distribution for parameter in parameters(SPACE)}
    assert found["model.lr"] == FloatDistribution(1e-4, 1e-1, log=True)
    assert found["data.batch_size"] == IntDistribution(8, 32, step=8)
    assert found["model.options.widths"] == CategoricalDistribution(["[4, 8]", "[4, 8, 16]"])


def test_values_lie_in_their_ranges_and_conditional_ones_exist_only_under_their_condition():
    seen = trials(60)
    for values in seen:
        assert 1e-4 <= values["model.lr"] <= 1e-1
        assert values["data.batch_size"] in (8, 16, 24, 32)
        assert values["model.loss.dice"] in (0, 0.25, 0.5, 0.75, 1)
        assert ("model.options.widths" in values) == (values["model.architecture"] == "unet")
    assert {values["model.architecture"] for values in seen} == {"unet", "resunet"}


def test_a_condition_on_a_key_outside_the_space_asks_the_recipe():
    space = {
        "model.warmup": {"float": [0.0, 0.1], "if": {"model.schedule": ["cosine", "constant"]}}
    }
    assert trials(1, space, {"model.schedule": "cosine"})[0]
    assert trials(1, space, {"model.schedule": "plateau"})[0] == {}


def test_a_key_inside_a_dictionary_changes_that_of_the_recipe_and_leaves_it_as_it_is():
    found = overrides(
        {"model.loss.dice": 0.7000000000000001, "model.options.widths": "[4, 8]", "model.lr": 1e-5},
        BASE,
    )
    flags = dict(zip(found[::2], found[1::2], strict=True))
    assert json.loads(flags["--model.loss"]) == {"bce": 0.5, "dice": 0.7}
    assert json.loads(flags["--model.options"]) == {"widths": [4, 8]}
    assert float(flags["--model.lr"]) == 1e-5
    assert BASE["model.loss"] == {"bce": 0.5, "dice": 0.5}


def test_the_recipe_own_values_are_taken_where_they_lie_inside():
    assert inside(SPACE, BASE) == {
        "model.lr": 0.01,
        "model.loss.dice": 0.5,
    }  # a batch of 12 is no multiple of 8


def test_the_corners_hold_every_choice_and_end():
    seen = list(corners(SPACE))
    for parameter in parameters(SPACE):
        d = parameter.distribution
        ends = d.choices if isinstance(d, CategoricalDistribution) else (d.low, d.high)
        if not parameter.condition:
            assert {values[parameter.key] for values in seen if parameter.key in values} >= set(
                ends
            )
    assert any(
        values.get("model.options.widths") and values["model.architecture"] == "unet"
        for values in seen
    )


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"a.b": {"flaot": [0, 1]}}, "give one of float, int and categorical"),
        (
            {"a.b": {"float": [0, 1], "lgo": True}},
            "no setting of a.b in the space named 'lgo'; did you mean 'log'",
        ),
        ({"a.b": {"float": [1, 0]}}, r"float of a.b is \[1, 0\]; give \[lowest, highest\]"),
        ({"a.b": {"float": ["1e-5", 1]}}, "1.0e-5 in YAML, not 1e-5"),
        ({"a.b": {"int": [0.5, 1]}}, "as ints"),
        ({"a.b": {"float": [0, 1], "log": True}}, "a log range starts above 0"),
        ({"a.b": {"int": [1, 8], "log": True, "step": 2}}, "has no step"),
        ({"a.b": {"categorical": []}}, "give a list of values"),
        ({"a.b": {"categorical": [1, 1]}}, "give distinct values"),
        (
            {"a.b": {"int": [0, 1]}, "a.b.c": {"int": [0, 1]}},
            "the space holds 'a.b' and, inside it, 'a.b.c'",
        ),
        (
            {"a.b": {"categorical": ["x", "y"]}, "a.c": {"int": [0, 1], "if": {"a.b": "z"}}},
            "a.c exists if a.b is 'z', but a.b is one of",
        ),
        (
            {"a.b": {"int": [0, 1], "if": {"a.c": 1}}, "a.c": {"int": [0, 1], "if": {"a.b": 1}}},
            "the conditions of a.b, a.c wait for each other",
        ),
    ],
)
def test_a_space_that_contradicts_itself_is_refused_in_a_sentence(space, sentence):
    with pytest.raises(InputError, match=sentence):
        parameters(space)


def test_a_space_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no space .*x\.yaml"):
        read_space(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("[1, 2")
    with pytest.raises(InputError, match="is not YAML"):
        read_space(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("- 1")
    with pytest.raises(InputError, match="is not a space"):
        read_space(tmp_path / "x.yaml")
