"""``lightning-seg profile``: what it counts, measures and refuses."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_seg.__main__ import main
from lightning_seg.analysis import profiling
from lightning_seg.analysis.profiling import Timing, parse, peak_memory, profile
from lightning_seg.errors import InputError

CPU = torch.device("cpu")
TINY = "unet:widths=[4,8]"


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("unet", "unet", {}),
        (
            "pam_unet:attention=none,regularizer=0.01",
            "pam_unet",
            {"attention": "none", "regularizer": 0.01},
        ),
        ("unet:widths=[4,8],in_channels=1", "unet", {"widths": [4, 8], "in_channels": 1}),
        ("unet:skip={name: dca, sca: false}", "unet", {"skip": {"name": "dca", "sca": False}}),
        ("package.module:Net", "package.module:Net", {}),
        ("package.module:Net:depth=3", "package.module:Net", {"depth": 3}),
    ],
)
def test_a_network_is_named_with_its_options(
    spec: str, name: str, options: dict[str, object]
) -> None:
    assert parse(spec) == (name, options)


def test_attention_products_are_counted_though_no_map_is_held() -> None:
    with_attention, without = (
        profile(f"pam_unet:attention={a}", 128, CPU, repeats=1, most=1, seconds=0).macs / 1e9
        for a in ("pla", "none")
    )
    assert with_attention == pytest.approx(1.32, rel=0.01)  # the paper's two values
    assert without == pytest.approx(0.72, rel=0.015)


def test_peak_memory_is_what_is_alive_at_once() -> None:
    image = torch.zeros(1, 3, 64, 64)
    chain = nn.Sequential(
        nn.ReLU(), nn.ReLU(), nn.ReLU()
    ).eval()  # one map going in and one coming out of a layer
    weights = nn.Linear(64, 64)
    with torch.inference_mode():
        assert peak_memory(chain, image) == 3 * image.nbytes
        assert peak_memory(weights, image) == 2 * image.nbytes + (64 * 64 + 64) * 4


class Attention(nn.Module):
    """Of all pixels to all, the map formed or not."""

    def __init__(self, holds: bool) -> None:
        super().__init__()
        self.holds = holds

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.flatten(2).transpose(1, 2).contiguous()
        if self.holds:
            return (x @ x.transpose(1, 2)).softmax(-1) @ x
        return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])


def test_attention_maps_count_as_memory_where_they_are_formed() -> None:
    image = torch.rand(1, 8, 64, 64)
    map_bytes = 4096**2 * 4
    with torch.inference_mode():
        lean, holding = (peak_memory(Attention(holds), image) for holds in (False, True))
    assert lean is not None
    assert holding is not None
    assert holding > map_bytes > 8 * lean


def test_the_batch_doubles_as_long_as_that_is_worth_it_and_fits() -> None:
    def measure(number: int) -> Timing:
        if number > 16:
            raise torch.OutOfMemoryError
        return Timing(number, 1.0, 1.0, 1.0)  # any batch takes a second

    one = Timing(1, 1.0, 1.0, 1.0)
    assert profiling._best(measure, one, 64).batch == 16
    assert profiling._best(measure, one, 4).batch == 4
    assert (
        profiling._best(lambda number: Timing(number, number, number, number), one, 64).batch == 1
    )


def test_a_table_a_file_of_numbers_and_a_plot_come_of_one_call(tmp_path: Path, capsys) -> None:
    numbers, picture = tmp_path / "profile.json", tmp_path / "plot.png"
    args = [
        TINY,
        "nanonet:variant=c",
        "--size",
        "32",
        "--device",
        "cpu",
        "--repeats",
        "3",
        "--max-batch",
        "2",
    ]
    main(["profile", *args, "--json", str(numbers), "--plot", str(picture)])
    content = json.loads(numbers.read_text(encoding="utf-8"))
    unet, nanonet = content["profiles"]
    assert (unet["model"], nanonet["model"]) == (TINY, "nanonet:variant=c")
    # DoubleConvs 3-4, 4-8 and 8-4, transposed convolution, head
    norms = 2 * (4 + 8 + 4) * 2
    assert unet["parameters"] == 9 * (12 + 16 + 32 + 64 + 32 + 16) + 4 * 8 * 4 + 4 + 4 + 1 + norms
    pixels = 32 * 32
    assert unet["macs"] == pixels * (9 * (12 + 16 + 32 + 16) + 4) + pixels // 4 * (
        9 * (32 + 64) + 4 * 32
    )
    assert (
        0
        < unet["single"]["lower_quartile"]
        <= unet["single"]["median"]
        <= unet["single"]["upper_quartile"]
    )
    assert unet["best"]["batch"] in (1, 2)
    assert picture.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert f"{unet['parameters']:,}" in printed
    assert "attention included" in printed
    assert content["convention"] in printed


@pytest.mark.parametrize("flag", [["--json"], ["--json", "-"]])
def test_json_on_the_terminal_is_nothing_but_json(flag: list[str], capsys) -> None:
    main(
        [
            "profile",
            TINY,
            "--size",
            "32",
            "--device",
            "cpu",
            "--repeats",
            "1",
            "--max-batch",
            "1",
            *flag,
        ]
    )
    assert json.loads(capsys.readouterr().out)["profiles"][0]["size"] == 32


def test_the_encoder_is_for_networks_that_name_none() -> None:
    assert profiling._with_encoder("unet", "resnet18") == "unet:encoder=resnet18"
    assert (
        profiling._with_encoder("unet:form=unet_a", "resnet18")
        == "unet:form=unet_a,encoder=resnet18"
    )
    assert profiling._with_encoder("unet:encoder=null", "resnet18") == "unet:encoder=null"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["unett"], "did you mean 'unet'"),
        (["unet", "unet:widht=[4]"], "did you mean 'widths'"),
        (["unet:widths=[4"], "values as in YAML"),
        (["unet:="], "is not a network"),
        (["nanonet", "--encoder", "resnet18"], "has an encoder of its own"),
        (["unet", "--size", "0"], "--size is 0"),
        (["--json", "unet", "nanonet"], "ends in .json"),
        (["unet", "--max-batch", "0"], "--max-batch is 0"),
        (["unet", "--device", "abacus"], "cannot be used here"),
        (["unet", "--device", "meta"], "nothing that could be timed"),
        (
            [
                TINY,
                "--size",
                "32",
                "--device",
                "cpu",
                "--repeats",
                "1",
                "--max-batch",
                "1",
                "--json",
                "no/such/n.json",
            ],
            "cannot write",
        ),
    ],
)
def test_bad_input_is_one_sentence(args: list[str], sentence: str, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["profile", *args])
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_an_unknown_device_is_an_input_error() -> None:
    with pytest.raises(InputError):
        profiling.profiled_device("cuda:99")
    assert profiling.profiled_device("cpu") == CPU
