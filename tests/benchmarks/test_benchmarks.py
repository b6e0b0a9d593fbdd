"""Every benchmark runs in its smoke form, and what a session on a GPU relies on holds without one."""

import json
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from stand_ins import break_down, break_down_later, count_steps, hang_later

from benchmarks import __main__ as front
from benchmarks import (
    _fits,
    _gpu_commands,
    _gpu_networks,
    _gpu_peers,
    _gpu_recipe,
    _plain,
    _watches,
    gpu_session,
    growth,
    sa_unet_v2,
)
from benchmarks._fits import (
    FIRST_STEPS,
    STEPS,
    TakesTurns,
    Turn,
    check_time,
    fits,
    take_turns,
)
from benchmarks._live import Live, hollow, step_memory, without_contents
from benchmarks._peers import SMOKE_PAIRS, write_pictures
from benchmarks._record import Record
from benchmarks._section import Bars, Lines, Section
from benchmarks._watches import METRICS, PARTS, Parts, WatchStep
from lightning_seg import models
from lightning_seg.cli import run
from lightning_seg.data import SegmentationDataModule
from lightning_seg.errors import InputError
from lightning_seg.runs.environment import cpu_has, environment
from lightning_seg.tables import count_text
from lightning_seg.training.module import SegmentationModule

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def session(tmp_path: Path, *args: str) -> dict[str, dict[str, Any]]:
    """The JSON files of a smoke session."""
    out, runs = tmp_path / "out", tmp_path / "runs"
    gpu_session.main(["--smoke", "--device", "cpu", "--out", str(out), "--runs", str(runs), *args])
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in out.glob("*.json")}


SLOW = ("training", "step", "startup", "growth", "scores")  # start processes that import everything


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in front.BENCHMARKS + front.LONG
    ],
)
def test_every_benchmark_writes_its_section_and_its_numbers(name: str, tmp_path: Path) -> None:
    front.main([name, "--smoke", "--results", str(tmp_path / "smoke.md")])
    text = (tmp_path / "smoke.md").read_text(encoding="utf-8")
    assert text.startswith(front.HEAD)
    assert f"## {name}\n" in text
    assert "SMOKE RUN, no measurement: commit " in text
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    links = re.findall(r"\]\((results/[^)]+)\)", text)
    for link in links:
        assert (tmp_path / link).stat().st_size < 30_000
    if links:
        content = json.loads((tmp_path / "results" / f"{name}.json").read_text(encoding="utf-8"))
        assert content["smoke"]
        assert content["data"]


def test_a_smoke_run_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(front, "RESULTS", tmp_path / "RESULTS.md")
    front.main(["sa_unet_v2", "--smoke"])
    assert "## sa_unet_v2\n" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_what_takes_long_must_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(front, "BENCHMARKS", ())
    monkeypatch.setattr(front, "LONG", ("sa_unet_v2",))
    front.main(["--smoke"])
    assert capsys.readouterr().out == ""
    front.main(["--smoke", "--long"])
    assert "## sa_unet_v2\n" in capsys.readouterr().out


def test_a_chart_is_the_same_file_for_the_same_numbers(tmp_path: Path) -> None:
    charts = {
        "bars": Bars("a", "s", {"x": [1, 2, 3]}, 1.5),
        "lines": Lines("b", "n", "s", {"x": ([1, 2], [3, 4])}),
    }
    for folder in ("first", "second"):
        links = Section("text", [1], charts).write(tmp_path / folder, "some", {"commit": "abc"})
        assert links[1:] == [f"![a]({folder}/some-bars.svg)", f"![b]({folder}/some-lines.svg)"]
    for name in ("bars", "lines"):
        first, second = (
            (tmp_path / folder / f"some-{name}.svg").read_bytes() for folder in ("first", "second")
        )
        assert first == second
    assert json.loads((tmp_path / "first" / "some.json").read_text(encoding="utf-8")) == {
        "commit": "abc",
        "data": [1],
    }


def stands_still(pid: int) -> bool:
    """Stopped and alive, as Linux tells; a signal reaches a process when that is next scheduled."""
    state = Path(f"/proc/{pid}/stat")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def few_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server that starts trainings imports what the stand-ins need."""
    monkeypatch.setattr(_fits, "PRELOADED", ["benchmarks._fits"])


@pytest.mark.usefixtures("few_imports")
def test_trainings_take_turns_and_stand_still_in_between(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("first", "second")]
    with fits({file.stem: partial(count_steps, file=file) for file in files}, tmp_path) as running:
        processes = [fit.process for fit in running.values()]
        before = [file.read_text(encoding="utf-8") for file in files]
        assert [text.count("step") for text in before] == [FIRST_STEPS, FIRST_STEPS]
        turn = running["first"].turn(0.0, 5)
        assert (turn.steps, turn.images, turn.loss, turn.facts) == (5, 10, 0.5, {"name": "first"})
        assert files[0].read_text(encoding="utf-8").count("step") == FIRST_STEPS + 5
        assert files[1].read_text(encoding="utf-8") == before[1]
        assert all(stands_still(process.pid) for process in processes)
    assert not any(process.is_alive() for process in processes)


@pytest.mark.usefixtures("few_imports")
def test_a_training_that_breaks_says_why_and_leaves_no_process(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such batch"), fits({"a": break_down}, tmp_path):
        pass


@pytest.mark.usefixtures("few_imports")
def test_a_session_goes_on_with_the_trainings_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = {
        "good": partial(count_steps, file=tmp_path / "good"),
        "bad": break_down,
        "late": break_down_later,
    }
    with fits(ways | {"silent": hang_later}, tmp_path, time.monotonic() + 300) as running:
        assert list(running) == ["good", "late", "silent"]
        monkeypatch.setattr(_fits, "LIMIT", 5.0)
        monkeypatch.setattr(_fits, "GRACE", 0.1)
        taken = take_turns(running, 2, 0.0)
    assert {name: [turn.steps for turn in turns] for name, turns in taken.items()} == {
        "good": [STEPS, STEPS]
    }
    for name, reason in {
        "bad": "no such batch",
        "late": "out of memory",
        "silent": "did not answer",
    }.items():
        assert reason in running.lost[name]


@pytest.mark.usefixtures("few_imports")
def test_a_turn_that_a_session_has_no_time_for_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_fits, "GRACE", 60.0)  # so long may the first turn last
    ways = {name: partial(count_steps, file=tmp_path / name) for name in ("first", "second")}
    with fits(ways, tmp_path, time.monotonic()) as running:
        taken = take_turns(running, 5, 0.0)
    assert [len(turns) for turns in taken.values()] == [1, 1]
    with pytest.raises(TimeoutError, match="for unet"):
        check_time(time.monotonic() + 1, "unet")
    check_time(None, "unet")


class Caller:
    """The other end of a training's connection, which asks for one more turn."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.calls: list[tuple[float, int] | None] = [(0.0, 3), None]

    def send(self, turn: Turn) -> None:
        self.turns.append(turn)

    def recv(self) -> tuple[float, int] | None:
        return self.calls.pop(0)


def fit_watched(tmp_path: Path, callbacks: list[Any]) -> None:
    sizes = [
        "--data.dataset",
        "phantom_polyp",
        "--data.size",
        "32",
        "--data.dataset_options",
        "{resolution: 32}",
        "--data.batch_size",
        "2",
    ]
    model = ["--model.architecture", "unet", "--model.options", "{widths: [4, 8]}"]
    end = [
        "--trainer.max_epochs",
        "9",
        "--trainer.limit_val_batches",
        "0",
        "--trainer.num_sanity_val_steps",
        "0",
    ]
    place = ["--runs", str(tmp_path / "runs"), "--trainer.accelerator", "cpu"]
    run(["fit", *sizes, *model, *end, *place], callbacks)


def fit_plainly(tmp_path: Path, callbacks: list[Any]) -> None:
    table, _ = write_pictures(tmp_path, smoke=True)
    place = {"runs": tmp_path / "plain", "accelerator": "cpu", "workers": 0}
    _plain.main(SMOKE_PAIRS[0].plain_args(table, 32, 2, **place), callbacks)


def watched(tmp_path: Path, way: str) -> list[Turn]:
    """Two turns of a training."""
    watch, caller = WatchStep(METRICS[way]), Caller()
    with pytest.raises(SystemExit):
        (fit_watched if way == "ours" else fit_plainly)(
            tmp_path, [watch, TakesTurns(cast(Any, caller), watch)]
        )
    return caller.turns


@pytest.mark.parametrize("planted", [False, True])
def test_no_training_step_waits_for_the_device(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:  # a read of the loss in each step, which must be found
        inner = SegmentationModule._loss
        monkeypatch.setattr(
            SegmentationModule, "_loss", lambda *args: inner(*args) * inner(*args).item()
        )
    _, second = watched(tmp_path, "ours")
    assert (second.steps, second.parts["waits"]) == (3, 3 if planted else 0)
    assert all(second.parts[part] > 0 for part in PARTS)


def test_the_waits_of_the_plain_loop_are_those_of_every_step(tmp_path: Path) -> None:
    first, second = watched(tmp_path, "plain")
    assert first.parts["waits"] == 0, "not counted yet"
    waits = second.parts["waits"] / second.steps
    assert waits == int(waits) > 0, "as many in each step: its metrics know their groups"
    assert all(second.parts[part] > 0 for part in PARTS)


def test_a_gpu_s_waits_are_its_warnings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def say(mode: str) -> None:
        warnings.warn(
            "Synchronization debug mode does not yet detect all synchronizing operations",
            stacklevel=2,
        )

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", say)
    with _watches._Waits() as waits:
        for _ in range(2):
            warnings.warn(
                f"{_watches.WARNING} (Triggered internally at CUDAFunctions.cpp:149.)", stacklevel=1
            )
    assert waits.found == 2


def test_the_parts_of_a_step_are_counted_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    parts = Parts(CPU)
    with parts.profile("[LightningModule]X.optimizer_step"):
        with parts.profile("[Strategy]SingleDeviceStrategy.training_step"):
            with parts.profile("metrics"):
                pass
        with parts.profile("[Callback]Y.on_before_zero_grad"):
            pass
        with parts.profile("[Strategy]SingleDeviceStrategy.backward"):
            pass
    found = parts.take()
    assert found["forward + loss"] == 2
    assert (found["metrics"], found["backward"], found["optimiser"]) == (1, 1, 4)
    assert found[PARTS[-1]] == 3  # before, after, and the callback inside
    assert sum(found.values()) == 11


def test_live_memory_is_that_of_the_tensors_that_are_held() -> None:
    with Live() as live:
        first = torch.zeros(1000)
        second = first.view(10, 100) + 1
        assert live.now == 8000
        del first
        assert live.now == 4000
        second.mul_(2)
        del second
    assert (live.now, live.peak) == (0, 8000)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_tensors_without_contents_count_like_real_ones(bfloat16: bool) -> None:
    make = partial(models.create, "unet", widths=(4, 8))
    real = step_memory(make().train(), 2, 32, bfloat16)
    with without_contents():
        counted = step_memory(hollow(make).train(), 2, 32, bfloat16)
    assert counted == pytest.approx(real, rel=1e-3)
    assert real["peak"] > real["forward"] + real["held"] > 0


def test_growth_is_the_exponent_of_a_power_law_and_a_bound_that_is_missed_is_said() -> None:
    square = growth.Curve("work", "side", [1, 2, 4], [3, 12, 48])
    flat = growth.Curve("look-up", "runs", [1, 10, 100], [5, 5, 5], growth.FLAT)
    assert square.exponent == pytest.approx(2)
    assert flat.exponent == pytest.approx(0)
    *_, first, second = growth.section([square, flat]).text.splitlines()
    assert first == "| work | side | 1 - 4 | 3 - 48 | 2.00 | linear: 1.1 | **missed** |"
    assert second.endswith("| flat: 0.1 | held |")


def test_the_plain_loop_reads_the_same_pictures_as_this_project(tmp_path: Path) -> None:
    table, kind = write_pictures(tmp_path, smoke=True)
    assert "SYNTHETIC" in kind
    data = SegmentationDataModule("folder", str(table), size=32, batch_size=2, augment="none")
    data.setup("validate")
    ours = next(iter(data.val_dataloader()))
    image, mask = next(iter(_plain.Pairs(table, "val", 32)))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colours = (image * std.view(3, 1, 1) + mean.view(3, 1, 1)) * 255
    assert (colours - ours["image"][0].float()).abs().mean() < 8  # another interpolation
    assert ((mask > 0.5) == (ours["mask"][0] > 0)).float().mean() > 0.97
    assert len(_plain.Pairs(table, "train", 32)) == len(data.ids("train"))


def test_a_section_replaces_its_former_self_and_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    for name, text in (("one", "1"), ("two", "2"), ("one", "3\n\n### part\n\n4")):
        front.write_section(file, name, text)
    assert (
        file.read_text(encoding="utf-8")
        == f"{front.HEAD.strip()}\n\n## one\n\n3\n\n### part\n\n4\n\n## two\n\n2\n"
    )


def test_a_misspelt_benchmark_is_a_sentence() -> None:
    with pytest.raises(InputError, match="did you mean 'sa_unet_v2'"):
        front.main(["sa_unet_v3", "--smoke"])


def test_all_variants_of_sa_unet_v2_compute_the_same_in_float32() -> None:
    torch.manual_seed(0)
    variants = sa_unet_v2.variants(torch.rand(1, 3, 48, 40))
    measured = sa_unet_v2.measure(variants, 3)
    plain, project, *rest = measured.values()
    assert plain.difference == 0
    assert project.difference < 1e-5
    assert all(1e-5 < bfloat16.difference < 0.1 for bfloat16 in rest)
    assert all(len(result.seconds) == 3 for result in measured.values())


def test_variants_take_turns_in_going_first() -> None:
    calls: list[str] = []

    def variant(name: str) -> torch.Tensor:
        calls.append(name)
        return torch.zeros(1)

    sa_unet_v2.measure({name: partial(variant, name) for name in "abc"}, 3)
    assert "".join(calls)[-9:] == "abcbcacab"


def test_ratios_are_those_within_a_repetition() -> None:
    measured = {
        "slow": sa_unet_v2.Measured([1, 2, 4], 0),
        "fast": sa_unet_v2.Measured([0.5, 1, 2], 1e-3),
    }
    *_, slow, fast = sa_unet_v2.table(measured).splitlines()
    assert slow == "| slow | 1 | 2.000 [1.500, 3.000] | 0.0e+00 |"
    assert fast == "| fast | 2.00 [2.00, 2.00] | 1.000 [0.750, 1.500] | 1.0e-03 |"


def test_where_a_number_was_measured_names_commit_hardware_and_versions() -> None:
    facts = environment(CPU, "abc")
    assert facts["commit"] == "abc"
    assert facts["torch"] == torch.__version__.partition("+")[0]
    assert f"{count_text(torch.get_num_threads(), 'thread')} used" in facts["cpu"]
    assert not cpu_has("no_such_flag")


@pytest.mark.slow
def test_a_session_compares_with_the_peers(tmp_path: Path) -> None:
    (record,) = session(tmp_path, "--phases", "peers").values()
    assert record["status"] == "done"
    assert {row["benchmark"] for row in record["rows"]} == {"memory", "latency", "step", "training"}
    assert [row for row in record["rows"] if "error" in row] == []
    assert [row for row in record["rows"] if row.get("lost") or "cut" in row] == []
    assert record["matrix_product_flops"]["float32"]


def test_a_peer_that_fails_is_a_row_and_the_next_one_has_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(good: bool) -> Iterator[dict[str, Any]]:
        yield {"value": 1}
        if not good:
            raise torch.OutOfMemoryError("no room")

    parts = {"memory": lambda _: rows(False), "training": lambda _: rows(True)}
    monkeypatch.setattr(_gpu_peers, "_parts", lambda *_: parts)
    record = session(tmp_path, "--phases", "peers")["peers"]
    assert record["rows"] == [
        {"benchmark": "memory", "value": 1},
        {"benchmark": "memory", "error": "OutOfMemoryError: no room"},
        {"benchmark": "training", "value": 1},
    ]
    assert record["status"] == "done"


def test_a_peer_whose_time_is_over_says_so_and_so_does_the_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(share: float) -> Iterator[dict[str, Any]]:
        for value in range(9):
            time.sleep(share)
            yield {"value": value}

    def parts(session: Any, record: Record) -> dict[str, Any]:
        return {
            "memory": lambda until: _gpu_peers._in_time(rows(0.2), until),
            "training": lambda until: rows(0.0),
        }

    monkeypatch.setattr(_gpu_peers, "_parts", parts)
    record = session(tmp_path, "--phases", "peers", "--minutes", "0.05")["peers"]
    first, second = (
        [row for row in record["rows"] if row["benchmark"] == name]
        for name in ("memory", "training")
    )
    assert first[-1] == {"benchmark": "memory", "cut": "the time was over"}
    assert 1 < len(first) < 9
    assert [row["value"] for row in second] == list(range(9))
    assert record["status"] == "out of time"


def test_a_session_runs_its_phases_and_leaves_a_few_flat_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        _gpu_peers, "_parts", lambda *_: {"memory": lambda _: (row for row in ())}
    )  # tested by itself
    monkeypatch.setattr(_gpu_commands, "command_line", lambda *_: True)
    monkeypatch.setattr(_gpu_commands, "studies", lambda *_: True)
    monkeypatch.setattr("lightning_seg.analysis.doctor.measure_all_reduce", lambda *_: 1.0)
    files = session(tmp_path, "--commit", "abc")
    assert list(files["first_minutes"]) == list(gpu_session.FIRST)
    for section in files["first_minutes"].values():
        assert (section["status"], section.get("failed", [])) == ("done", [])
    assert all(row["equal"] for row in files["first_minutes"]["synced_norms"]["rows"])
    assert [row["setting"] for row in files["first_minutes"]["determinism"]["rows"]] == 2 * [
        "free",
        "deterministic",
    ]
    later = [name for name in gpu_session.PHASE_SHARES if name not in gpu_session.FIRST]
    networks, throughput, peers, recipe = (files[name] for name in later)
    for record in (networks, throughput, peers, recipe):
        assert (record["status"], record["commit"], record["smoke"]) == ("done", "abc", True)
    # oneDNN leaves part of the gradient of fcn8's 7x7 kernel uninitialised on such small maps
    assert set(networks["failed"]) <= {"fcn8 bfloat16"}
    rows = {(row["architecture"], row["dtype"]) for row in networks["rows"]}
    assert rows == {(name, dtype) for name in models.names() for dtype in ("float16", "bfloat16")}
    count = 6 * len(_gpu_networks.SMOKE_ENCODERS)
    settings = ["as_recipes_run"] * count + ["deterministic"] * count
    assert [row["setting"] for row in throughput["rows"]] == settings
    assert all(row["images_per_second"] > 0 for row in throughput["rows"])
    assert recipe["completed"]
    assert 0 <= recipe["test"]["test/dice"] <= 1
    epochs = recipe["rows"]
    assert [row["epoch"] for row in epochs] == [0, 1]
    assert all(0 < row["train_seconds"] < row["seconds"] and "val/dice" in row for row in epochs)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    kept = {"recipe-config.yaml", "recipe-scores.csv", "recipe-summary.json"}
    assert names == kept | {f"{name}.json" for name in ("first_minutes", *later)}
    assert len(names) <= 8, "as many come back"


@pytest.mark.slow
def test_a_session_tries_whole_commands_on_one_device_and_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("LIMIT", "ENDING"):  # of a GPU's machine
        monkeypatch.setattr(_gpu_commands, limit, 600.0)
    record = session(tmp_path, "--phases", "commands", "studies", "--minutes", "60")
    commands, studies = (record["first_minutes"][name] for name in ("commands", "studies"))
    assert (commands["status"], studies["status"]) == ("done", "done")
    assert (commands["failed"], studies["failed"]) == ([], []), record
    rows = {row["step"]: row for row in commands["rows"]}
    assert list(rows) == list(_gpu_commands.STEPS)
    one, all_, validated, same, memory, sigterm, resumed, compiled = rows.values()
    assert one["steps"] == all_["steps"] == 3 * _gpu_commands.EPOCHS
    assert validated["validate"] == pytest.approx(validated["in_fit"], abs=2e-3)
    assert validated["telling"], "a network that found nothing has the same score everywhere"
    assert same["images"] == _gpu_commands.IMAGES["val"]
    assert [line.count("not enough memory") for line in memory["told"]] == [1]
    assert "--ckpt_path" in sigterm["told"][-1]
    assert resumed["steps"] == one["steps"] + 3
    assert compiled["skipped"] == "a CPU compiles for minutes"
    assert [row["trials"] for row in studies["rows"]] == [2, 1]


def test_a_command_that_fails_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: Any) -> dict[str, Any]:
        raise _gpu_commands.CommandError("exit code 2: error: no such thing")

    monkeypatch.setattr(_gpu_commands, "_two_trials", broken)
    monkeypatch.setattr(_gpu_commands, "_wide_trial", lambda bench: {"trials": 1})
    record = session(tmp_path, "--phases", "studies")["first_minutes"]["studies"]
    assert record["failed"] == ["two trials"]
    assert [("error" in row) for row in record["rows"]] == [True, False]


def test_the_first_phases_do_without_the_packages_of_the_command_line(tmp_path: Path) -> None:
    phases = ("architectures", "throughput", "recipe")
    code = (
        "import sys\n"
        "for name in ('albumentations', 'optuna', 'jsonargparse', 'cv2'): sys.modules[name] = None\n"
        "from benchmarks import gpu_session\n"
        "from benchmarks import _gpu_networks\n"
        "_gpu_networks.models.names = lambda: ['unet', 'sa_unet_v2']\n"
        "_gpu_networks.UNET_A = ('transunet',)\n"
        f"gpu_session.main(['--smoke', '--device', 'cpu', '--out', {str(tmp_path)!r}, '--phases', *{phases!r}])\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    files = {
        name: json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) for name in phases
    }
    assert files["architectures"]["failed"] == []
    assert files["throughput"]["status"] == "done"
    assert all("error" not in row for row in files["throughput"]["rows"])
    assert files["recipe"]["status"] == "failed", "the recipe is the phase that needs them"


def test_a_network_that_fails_is_a_row_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "names", lambda: ["no_such_network", "unet"])
    record = session(tmp_path, "--phases", "architectures")["architectures"]
    assert record["status"] == "done"
    assert record["failed"] == ["no_such_network float16", "no_such_network bfloat16"]
    assert [("error" in row) for row in record["rows"]] == [True, True, False, False]


def test_gradients_that_are_not_finite_are_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "names", lambda: ["unet"])
    monkeypatch.setattr(_gpu_networks, "DTYPES", {"bfloat16": torch.bfloat16})
    monkeypatch.setattr(torch.amp.GradScaler, "scale", lambda self, loss: loss * float("inf"))
    (row,) = session(tmp_path, "--phases", "architectures")["architectures"]["rows"]
    assert "not finite" in row["error"]


def test_the_gradients_of_a_scaled_loss_get_back_their_size() -> None:
    sizes = []
    for dtype in (torch.float16, torch.bfloat16):  # with a scale and without
        torch.manual_seed(0)
        training = _gpu_networks.Training(models.create("unet", widths=(4, 8)), 2, 32, CPU, dtype)
        training.step(unscale=True)
        sizes.append(
            sum(float(p.grad.norm()) for p in training.net.parameters() if p.grad is not None)
        )
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_the_batch_is_halved_until_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def speed(
        session: Any, name: str, encoder: str | None, size: int, batch: int, fixed: bool
    ) -> dict[str, Any]:
        if batch > limit:
            raise torch.OutOfMemoryError
        return {"images_per_second": batch}

    monkeypatch.setattr(_gpu_networks, "_speed", speed)
    limit = 8
    some: Any = None
    assert _gpu_networks._fitting(some, "unet", None, 256, 64, True) == {
        "batch": 8,
        "images_per_second": 8,
    }
    limit = 0
    assert _gpu_networks._fitting(some, "unet", None, 256, 64, True) == {
        "batch": 1,
        "error": "out of memory",
    }


def test_a_phase_without_time_says_so(tmp_path: Path) -> None:
    files = session(tmp_path, "--minutes", "1e-9", "--phases", "architectures", "throughput")
    for record in files.values():
        assert record["status"] == "out of time"
        assert record["rows"] == []


def test_a_fit_that_the_time_cuts_short_is_marked_and_still_tested(tmp_path: Path) -> None:
    cut = "--trainer.max_epochs 100000 --trainer.max_time 00:00:00:02"
    record = session(tmp_path, "--phases", "recipe", "--overrides", cut)["recipe"]
    assert record["status"] == "out of time"
    assert not record["completed"]
    assert 0 < record["epochs"] < record["max_epochs"]
    assert "test/dice" in record["test"]


def test_a_recipe_that_fails_is_recorded_with_its_sentence_and_the_next_phase_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "names", lambda: ["unet"])
    files = session(tmp_path, "--phases", "recipe", "architectures", "--overrides", "--model.lrr 1")
    assert files["recipe"]["status"] == "failed"
    assert "did you mean 'model.lr'" in files["recipe"]["error"]
    assert files["architectures"]["status"] == "done"


def test_a_record_is_whole_on_disk_after_every_row(tmp_path: Path) -> None:
    file = tmp_path / "phase.json"
    record = Record(file, {"commit": "abc"})
    assert json.loads(file.read_text(encoding="utf-8")) == {"commit": "abc", "rows": []}
    record.add(value=1)
    record.update(status="done")
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "commit": "abc",
        "rows": [{"value": 1}],
        "status": "done",
    }
    assert list(tmp_path.iterdir()) == [file]


def test_the_utilisation_comes_from_torch_or_from_the_driver_s_tool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NVMLError(Exception):
        """As that of NVIDIA's Python package."""

    def absent() -> int:
        raise NVMLError("Driver/library version mismatch")

    assert _gpu_recipe.gpu_utilization() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "utilization", lambda: 98)
    assert _gpu_recipe.gpu_utilization() == 98
    monkeypatch.setattr(torch.cuda, "utilization", absent)
    assert _gpu_recipe.gpu_utilization() is None
    monkeypatch.setattr(_gpu_recipe, "QUERY", (sys.executable, "-c", "print(37)"))
    assert _gpu_recipe.gpu_utilization() == 37


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--minutes", "0"], "--minutes is 0"),
        (["--data", "no/such/folder"], "no folder"),
        (["--recipe", "no.yaml"], "no file"),
        (["--device", "cuda"], "sees no GPU"),
        (["--device", "gpu"], "--device is 'gpu'"),
    ],
)
def test_bad_input_is_one_sentence(
    args: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=sentence):
        session(tmp_path, *args)
    assert not (tmp_path / "out").exists()
