"""The search spaces that ship: each fits its recipes on the command line, and begins with them."""

from pathlib import Path

import optuna
import pytest

from hpo.recipe import check_space, dry_run
from hpo.space import inside, overrides, parameters, read_space, suggest

ROOT = Path(__file__).parent.parent.parent
SPACES = {
    "kvasir_cpu": ["unet_mobilenetv2_kvasir_cpu"],
    "pam_unet": ["pam_unet_kvasir", "pam_unet_lits"],
    "pefnet": ["pefnet_kvasir"],
    "sa_unet_v2": ["sa_unet_v2_drive"],
    "unet3plus_efficientnet": ["unet3plus_efficientnet"],
    "unet_a": ["attention_unet_convnext", "unet3plus_efficientnet"],
}
PAIRS = [(space, recipe) for space, recipes in SPACES.items() for recipe in recipes]


def test_every_space_has_a_recipe_and_says_which():
    files = {
        path.stem: path.read_text(encoding="utf-8")
        for path in (ROOT / "hpo" / "spaces").glob("*.yaml")
    }
    assert set(files) == set(SPACES)
    for space, recipe in PAIRS:
        assert f"{recipe}.yaml" in files[space], space


@pytest.mark.parametrize(("space", "recipe"), PAIRS)
def test_a_space_fits_its_recipe_and_starts_with_it(space, recipe, monkeypatch):
    monkeypatch.delenv("LIGHTNING_SEG_DATA", raising=False)
    content = read_space(ROOT / "hpo" / "spaces" / f"{space}.yaml")
    path = str(ROOT / "experiments" / f"{recipe}.yaml")
    base = dry_run(path, [])
    assert set(inside(content, base)) == {p.key for p in parameters(content)}, (
        "trial 0 is not the recipe itself"
    )
    values = suggest(
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask(), content, base
    )
    found = dry_run(path, overrides(values, base))
    for key, value in values.items():
        if isinstance(value, int | float) and key in found:
            assert found[key] == pytest.approx(value)


@pytest.mark.slow
@pytest.mark.parametrize(("space", "recipe"), PAIRS)
def test_every_end_of_a_space_fits_its_recipe(space, recipe):
    check_space(
        str(ROOT / "experiments" / f"{recipe}.yaml"),
        [],
        read_space(ROOT / "hpo" / "spaces" / f"{space}.yaml"),
    )
