"""``python tools/networks_page.py``: write ``docs/networks.md``, which says how each network is proven.

Parameters and multiply-adds are counted, recipes and results are looked up; only what the tests hold
a network against is stated here, with the test that does it.
"""

import csv
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "networks.md"
TESTS = ROOT / "tests" / "models"
RESULTS = ROOT / "experiments" / "results" / "reproduced.csv"
sys.path.insert(0, str(ROOT))

OFFICIAL = "official graph"
CLASS = "published class"
KEPT = "none: held as they are"


@dataclass(frozen=True)
class Proof:
    """What a form of a network is held against.

    Attributes:
        form: arguments of the constructor.
        size: side in pixels at which multiply-adds are counted.
        counts: where the number of parameters and multiply-adds comes from.
        outputs: whose outputs or which arithmetic it reproduces; empty: none.
        tests: ``file::test`` below ``tests/models``.
    """

    size: int
    counts: str
    outputs: str
    tests: tuple[str, ...]
    form: dict[str, Any] = field(default_factory=dict)


COUNTED = "test_parameters_and_multiply_adds"
HOSTS = (
    f"test_dca_hosts.py::{COUNTED}_are_those_of_the_published_classes",
    "test_dca_hosts.py::test_the_output_is_that_of_the_published_class",
)
SA_UNETS = (
    f"test_sa_unet.py::{COUNTED}_are_those_of_the_official_graph",
    "test_sa_unet.py::test_official_outputs_are_reproduced",
)
CARD = (f"test_unet_a.py::{COUNTED}_stay_as_they_are",)
BLOCKS = "blocks against their equations"
UNTOUCHED = "none"


def _host(**form: Any) -> Proof:
    return Proof(224, CLASS, f"{CLASS}, to 1e-5", HOSTS, form)


PROOFS = {
    "attention_unet": Proof(
        128,
        "LeeJunHyun's code",
        "its grid gate against its equation",
        (
            f"test_leejunhyun.py::{COUNTED}",
            "test_attention_unet.py::test_the_grid_gate_is_its_equation",
        ),
        {"form": "leejunhyun"},
    ),
    "dca_unet": _host(skip="dca"),
    "ddanet": Proof(
        256,
        "published (6.84 M)",
        "its penalty against its equation",
        (
            f"test_ddanet.py::{COUNTED}",
            "test_ddanet.py::test_the_penalty_is_the_weighted_cross_entropy_of_the_reconstruction",
        ),
    ),
    "deep_residual_unet": Proof(
        256,
        "Keras form behind PAM-UNet's table",
        UNTOUCHED,
        (f"test_deep_residual_unet.py::{COUNTED}_are_those_of_the_keras_form",),
    ),
    "deeplab_v3_plus": Proof(
        128,
        KEPT,
        BLOCKS,
        (
            f"test_deeplab_v3_plus.py::{COUNTED}",
            "test_deeplab_v3_plus.py::test_the_separable_convolution_sees_pixels_a_dilation_apart",
        ),
    ),
    "double_unet": _host(skip="dca"),
    "fcn8": Proof(
        128,
        KEPT,
        "its way up against bilinear interpolation",
        (
            f"test_fcn8.py::{COUNTED}",
            "test_fcn8.py::test_the_way_up_starts_as_bilinear_interpolation_of_each_class",
        ),
    ),
    "hrnet": Proof(
        128,
        KEPT,
        "the exchange of resolutions against its own small form",
        (f"test_hrnet.py::{COUNTED}", "test_hrnet.py::test_resolutions_are_exchanged_bilinearly"),
    ),
    "mobile_unet": Proof(
        128,
        "published (0.85 G)",
        UNTOUCHED,
        (
            "test_mobile_unet.py::test_it_has_the_size_and_cost_of_mobilenet_under_the_plain_decoder",
        ),
    ),
    "multires_unet": _host(skip="dca"),
    "nanonet": Proof(
        256,
        "published",
        f"{OFFICIAL} (form A)",
        (
            f"test_nanonet.py::{COUNTED}_are_the_published_ones",
            "test_nanonet.py::test_it_reproduces_the_official_keras_network",
        ),
    ),
    "pam_unet": Proof(
        128,
        "published (0.72 and 1.32 G)",
        "its attention and penalty against their equations; the released code does not run",
        (
            f"test_pam_unet.py::{COUNTED}",
            "test_pam_unet.py::test_attention_and_its_variance_are_the_paper_s_equations",
        ),
    ),
    "pefnet": Proof(
        256,
        OFFICIAL,
        f"{OFFICIAL} of the decoder",
        (
            f"test_pefnet.py::{COUNTED}_at_256_are_those_of_the_official_graph",
            "test_pefnet.py::test_the_official_decoder_is_reproduced",
        ),
    ),
    "r2unet": _host(skip="dca"),
    "resunet": Proof(256, KEPT, UNTOUCHED, CARD),
    "resunet_plus_plus": _host(form="dca", skip="dca"),
    "sa_unet": Proof(592, OFFICIAL, f"{OFFICIAL}, to 1e-4", SA_UNETS),
    "sa_unet_v2": Proof(592, OFFICIAL, f"{OFFICIAL}, to 1e-4", SA_UNETS),
    "transunet": Proof(256, KEPT, UNTOUCHED, CARD),
    "unet": Proof(
        128,
        "LeeJunHyun's code",
        UNTOUCHED,
        (f"test_leejunhyun.py::{COUNTED}",),
        {"form": "leejunhyun"},
    ),
    "unet3plus": Proof(
        256,
        "published code",
        "its gate against its equation",
        (
            f"test_unet3plus.py::{COUNTED}_at_256_are_those_of_both_codes",
            "test_unet3plus.py::test_the_class_gate_multiplies_probabilities_and_stays_finite_at_extremes",
        ),
        {"streams": "paper"},
    ),
    "unetplusplus": Proof(256, KEPT, UNTOUCHED, CARD),
    "vnet": _host(skip="dca"),
}

HEAD = """# Networks, and how each is proven

Written by `python tools/networks_page.py`; do not edit.

* **Parameters, multiply-adds**: counted now, for the form that is named (the default where none is) and one image of that
  size; what they are held against stands beside them. *none* means that no published count was found for this form: the
  test only sees that they stay.
* **Outputs**: *official graph*: the outputs of the authors' network with its weights, which the tests read where
  `LIGHTNING_SEG_PARITY` names their folder. *published class*: the outputs of the authors' class from the same random start.
  Else the parts that are held against an independent form; *none*: shapes, gradients and training alone, as for all.
* **Own result**: the run with the most epochs on the largest images in `experiments/results/reproduced.csv`, Dice as the mean
  over images. Compare it with the published one by `python -m experiments leaderboard`; none is of a paper's full length unless
  that says so.
"""


def architecture_recipes() -> dict[str, list[str]]:
    """Recipes and sweeps by the network they train."""
    found: dict[str, list[str]] = {name: [] for name in PROOFS}
    for file in sorted((ROOT / "experiments").glob("*.yaml")):
        recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
        name = recipe.get("model", {}).get("architecture")
        # a campaign lists recipes and is none
        if name in found:
            found[name].append(file.stem)
    for file in sorted((ROOT / "experiments" / "sweeps").glob("*.yaml")):
        sweep = yaml.safe_load(file.read_text(encoding="utf-8"))
        chosen = [model.get("overrides", {}) for model in sweep.get("models", [])]
        for name in sorted({str(change.get("model.architecture")) for change in chosen}):
            if name in found:
                found[name].append(f"sweeps/{file.stem}")
    return found


def own_results() -> dict[str, str]:
    """The best established result of each network, in words."""
    best: dict[str, tuple[tuple[int, int, float], str]] = {}
    with RESULTS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["convention"], row["score"]) != ("image", "dice"):
                continue
            side = 10_000 if row["size"] == "native" else int(row["size"])
            rank = int(row["epochs"]), side, float(row["value"])
            network = row["encoder"] or "own encoder"
            place = f"{row['protocol']}, {row['size']} px".replace("native px", "native size")
            words = f"{float(row['value']):.3f} ({network}, {place}, {row['epochs']} epochs)"
            name = row["architecture"]
            best[name] = max(best.get(name, (rank, words)), (rank, words))
    return {name: words for name, (_, words) in best.items()}


def network_row(name: str, proof: Proof, recipes: list[str], result: str) -> str:
    """One line of the table."""
    from lightning_seg.models.frame.listing import count

    parameters, operations = count(name, proof.size, **proof.form)
    form = ", ".join(f"{key}: {value}" for key, value in proof.form.items())
    cells = [
        f"`{name}`" + (f" ({form})" if form else ""),
        f"{parameters:,}",
        f"{operations / 1e9:.2f} G at {proof.size}",
        proof.counts,
        proof.outputs,
        "<br>".join(recipes) or "-",
        result,
    ]
    return f"| {' | '.join(cells)} |"


def page_text() -> str:
    """The page, from the networks, recipes and results as they are."""
    recipes, results = architecture_recipes(), own_results()
    titles = ("Network", "Parameters", "Multiply-adds", "Held against", "Outputs", "Recipes")
    lines = [f"| {' | '.join((*titles, 'Own result'))} |", "|---|--:|--:|---|---|---|---|"]
    for name, proof in PROOFS.items():
        lines.append(network_row(name, proof, recipes[name], results.get(name, "-")))
    return "\n".join([HEAD, *lines, ""])


if __name__ == "__main__":
    from lightning_seg import models

    if lacking := sorted(set(models.names()) - set(PROOFS)):
        sys.exit(f"error: {', '.join(lacking)} has no proof; give it one in PROOFS of {__file__}.")
    PAGE.write_text(page_text(), encoding="utf-8")
    print(PAGE)
