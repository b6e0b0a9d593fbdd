"""What tested runs leave in results/ and what the leaderboard makes of it: on generated runs, whose right order is known."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_runs import CONFIG, make_run, make_table

from experiments import __main__ as front
from experiments import record as recording
from experiments.facts import RESULTS, load_results
from experiments.fits import effort_of, plan, read_efforts
from experiments.leaderboard import __main__ as leaderboard
from experiments.leaderboard import page, text
from experiments.leaderboard.boards import make_boards
from experiments.leaderboard.columns import columns
from experiments.leaderboard.elsewhere import set_beside
from experiments.published import (
    PAPERS,
    override_arguments,
    read_evaluations,
    recipe_overrides,
    unscored_systems,
)
from experiments.record import main as record
from experiments.record import read_rows
from experiments.runs import results_of
from lightning_seg.errors import InputError
from lightning_seg.evaluation import ScoreTable, per_image, pooled
from lightning_seg.files import write_whole

MODELS: list[tuple[float, dict[str, Any]]] = [
    (0.88, {"model.architecture": "unetplusplus"}),
    (0.876, {}),
    (0.872, {"model.architecture": "attention_unet"}),
    (0.87, {"model.options": {"skip": "dca"}}),
    (0.84, {"model.architecture": "resunet"}),
    (0.79, {"model.architecture": "unet", "model.encoder": None, "model.pretrained": False}),
]

DCA: dict[str, Any] = {
    "model.architecture": "dca_unet",
    "model.options": {"skip": "dca"},
    "model.encoder": None,
    "model.pretrained": False,
    "model.loss": {"dice": 1.0},
    "data.protocol": "kvasir-800-200",
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """results/ of a sweep of six models over three seeds."""
    folder = tmp_path_factory.mktemp("sweep")
    for number, (dice, changes) in enumerate(MODELS):
        for seed in (42, 43, 44):
            make_run(folder / "runs" / f"trial_{number}{seed}" / "version_0", dice, seed, changes)
    record([str(folder / "runs"), "--results", str(folder / "results")])
    return folder / "results"


@pytest.fixture(scope="module")
def content(recorded: Path) -> text.LeaderboardContent:
    return leaderboard.collect(recorded)


def names(rows: list[Any]) -> list[str]:
    return [line.first.model for line in rows]


def test_a_recorded_table_is_the_run_s_own_and_its_facts_say_how_it_was_made(
    recorded: Path,
) -> None:
    results = load_results(recorded)
    assert len(results) == 18
    dca = next(r for r in results if r.facts.options == {"skip": "dca"} and r.facts.seed == 43)
    assert np.array_equal(dca.table.counts, make_table(0.87, 43).counts)
    assert dca.facts.model == "unet x mobilenetv2_100, skip=dca"
    assert dca.facts.recipe == "unet_mobilenetv2_kvasir_cpu"
    assert dca.facts.changes == {}
    assert (dca.facts.commit, dca.facts.hardware, dca.facts.minutes) == (
        "27c2e10",
        "AMD EPYC, 2 cores",
        19.2,
    )
    assert (dca.facts.looks, dca.facts.epochs, dca.facts.precision) == (3, 60, "32-true")
    assert (dca.facts.parameters or 0) > 2_000_000
    scratch = next(r for r in results if not r.facts.encoder)
    assert scratch.facts.parameters == 31_037_633  # of the U-Net with batch norm and three colours


def test_seeds_share_a_training_and_everything_else_that_is_trained_differently_does_not(
    tmp_path: Path,
) -> None:
    def training(number: int, seed: int, **changes: Any) -> str:
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        return next(results_of(make_run(tmp_path / str(number), 0.8, seed, dotted))).facts.training

    def stopped(patience: int) -> dict[str, Any]:
        path = "lightning.pytorch.callbacks.EarlyStopping"
        return {
            "trainer__callbacks": [
                {"class_path": path, "init_args": {"monitor": "val/loss", "patience": patience}}
            ]
        }

    base = training(0, 42)
    machine = {
        "data__root": "/elsewhere",
        "data__cache": "/fast",
        "data__num_workers": 4,
        "trainer__devices": 2,
    }
    assert training(1, 43, **machine) == base
    others = [
        stopped(5),
        stopped(20),
        {"model__weight_decay": 0.0},
        {"data__online": False},
        {"trainer__max_epochs": 12},
        {"model__lr": 0.001},
        {"data__augment": "none"},
        {"model__options": {"skip": "dca"}},
    ]
    assert len({base, *(training(2 + i, 42, **change) for i, change in enumerate(others))}) == 9


def test_where_a_training_departs_from_its_recipe_is_said(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run",
        0.8,
        42,
        {"trainer.max_epochs": 12, "data.size": 128, "model.optimizer": "sgd"},
    )
    facts = next(results_of(run)).facts
    assert facts.changes == {"trainer.max_epochs": 12, "data.size": 128, "model.optimizer": "sgd"}
    assert "with data.size=128, model.optimizer=sgd, trainer.max_epochs=12" in facts.settings


def test_a_run_that_was_tested_on_other_data_says_on_which_it_was_trained_and_reproduces_nothing(
    tmp_path: Path,
) -> None:
    elsewhere = {
        "dataset": "cvc_clinicdb",
        "protocol": "clinicdb-459-153",
        "protocol_digest": "000000000000",
    }
    runs = [
        make_run(tmp_path / "a", 0.8, 42, DCA),
        make_run(tmp_path / "b", 0.8, 42, DCA, **elsewhere),
    ]
    for run in runs:
        command = {"command": ["fit", "-c", "experiments/dca_unet_kvasir.yaml"]}
        (run / "environment.json").write_text(json.dumps(command))
    home, away = (next(results_of(run)).facts for run in runs)
    assert (home.trained_on, away.trained_on) == ("", "kvasir_seg, kvasir-800-200")
    assert "trained on kvasir_seg, kvasir-800-200" in away.settings
    assert (away.training, away.changes) == (home.training, home.changes)
    published = read_evaluations()
    here = replace(away, trained_on="")
    assert any(evaluation.reproduced_by(here) for evaluation in published)
    for other in (away, replace(here, inference="tta=flips")):
        assert not any(evaluation.reproduced_by(other) for evaluation in published)


def test_a_protocol_given_as_a_file_or_left_to_the_data_set_has_its_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("# name: my-split\n# version: 1\nid,split\na,train\nb,val\nc,test\n")
    for number, (given, name) in enumerate(
        ((str(file), "my-split"), (None, "phantom-polyp"), ("auto", "auto"))
    ):
        changes = {"data.dataset": "phantom_polyp", "data.protocol": given}
        facts = next(
            results_of(make_run(tmp_path / str(number), 0.8, 42, changes, protocol=name))
        ).facts
        assert (facts.trained_on, facts.protocol) == ("", name)


def test_a_record_that_was_cut_short_is_completed_by_the_next_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 0.8)
    record([str(run), "--results", str(tmp_path)])
    whole = {
        file: file.read_bytes() for file in tmp_path.rglob("*.[cj]s*") if run not in file.parents
    }
    assert len(whole) == 3
    facts = next(file for file in whole if file.suffix == ".json")
    for lost in ([facts], [facts, facts.with_suffix(".csv")], [facts, tmp_path / "reproduced.csv"]):
        for file in lost:
            file.unlink()
        record([str(run), "--results", str(tmp_path)])
        assert {file: file.read_bytes() for file in whole} == whole


def test_a_run_that_is_recorded_and_shown_besides_counts_once(
    recorded: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "again", 0.876)
    board = leaderboard.collect(recorded, [run]).boards[0]
    assert sum(len(line.facts) for line in board.lines) == 18
    other = make_run(tmp_path / "other", 0.9)
    with pytest.raises(InputError, match="two runs of the same training and seed"):
        leaderboard.collect(recorded, [other])


def test_the_same_run_recorded_twice_stands_once_and_older_rows_stay(
    recorded: Path, tmp_path: Path
) -> None:
    (tmp_path / "reproduced.csv").write_bytes((RESULTS / "reproduced.csv").read_bytes())
    before = read_rows(tmp_path / "reproduced.csv")
    run = make_run(tmp_path / "run" / "version_0", 0.8)
    for _ in range(2):
        record([str(run), "--results", str(tmp_path)])
    rows = read_rows(tmp_path / "reproduced.csv")
    assert rows[: len(before)] == before
    new = {(r["class"], r["convention"], r["score"]): r for r in rows[len(before) :]}
    assert len(new) == len(rows) - len(before) == 4
    dice = per_image(make_table(0.8, 42).of("polyp"), "dice")
    assert float(new["polyp", "image", "dice"]["value"]) == pytest.approx(dice.mean(), abs=5e-5)
    assert len(load_results(tmp_path)) == 1


def test_another_run_of_the_same_training_and_seed_does_not_replace_the_first(
    tmp_path: Path,
) -> None:
    first, second = (make_run(tmp_path / name, dice) for name, dice in (("a", 0.8), ("b", 0.9)))
    record([str(first), "--results", str(tmp_path)])
    with pytest.raises(InputError, match="the better of two is no result"):
        record([str(second), "--results", str(tmp_path)])
    assert np.array_equal(load_results(tmp_path)[0].table.counts, make_table(0.8, 42).counts)
    record([str(second), "--results", str(tmp_path), "--replace"])
    assert np.array_equal(load_results(tmp_path)[0].table.counts, make_table(0.9, 42).counts)
    assert len(read_rows(tmp_path / "reproduced.csv")) == 4


def test_all_rows_of_a_command_are_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2, 3):
        make_run(tmp_path / "runs" / str(seed), 0.8, seed)
    written: list[str] = []
    monkeypatch.setattr(
        recording,
        "write_whole",
        lambda file, content: (written.append(file.name), write_whole(file, content)),
    )
    record([str(tmp_path / "runs"), "--results", str(tmp_path)])
    assert written.count("reproduced.csv") == 1
    assert len(read_rows(tmp_path / "reproduced.csv")) == 12
    assert len(load_results(tmp_path)) == 3


def test_two_runs_of_one_training_and_seed_in_one_command_are_one_result_and_a_refusal(
    tmp_path: Path,
) -> None:
    for name, dice in (("a", 0.8), ("b", 0.9)):
        make_run(tmp_path / "runs" / name, dice)
    with pytest.raises(InputError, match="two runs of the same training and seed"):
        record([str(tmp_path / "runs"), "--results", str(tmp_path)])
    assert len(load_results(tmp_path)) == 1


def _environment(run: Path, **changes: Any) -> None:
    """The same environment with other facts, those of the sittings in ``sitting``."""
    file = run / "environment.json"
    kept = json.loads(file.read_text(encoding="utf-8"))
    for sitting in kept["sittings"]:
        sitting |= changes.get("sitting", {})
    file.write_text(json.dumps(kept | {k: v for k, v in changes.items() if k != "sitting"}))


def test_a_run_from_a_changed_work_tree_is_refused_unless_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", 0.8)
    _environment(run, sitting={"commit": "27c2e10-dirty"})
    with pytest.raises(InputError, match=r"differs from its commit .*--allow-changed"):
        record([str(run), "--results", str(tmp_path)])
    assert load_results(tmp_path) == []
    record([str(run), "--results", str(tmp_path), "--allow-changed"])
    assert load_results(tmp_path)[0].facts.commit == "27c2e10-dirty"


def test_load_threads_and_an_early_end_stand_beside_the_minutes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", 0.8)
    ending = {"status": "interrupted", "epochs_planned": 60, "epochs_done": 12}
    _environment(run, sitting={"threads": 2, "load": 1.5}, ending=ending)
    record([str(run), "--results", str(tmp_path)])
    facts = load_results(tmp_path)[0].facts
    assert (facts.threads, facts.load) == (2, 1.5)
    assert facts.ending == "INTERRUPTED after 12 of 60 epochs"
    shown = text.markdown(leaderboard.collect(tmp_path))
    assert "32-true, 2 threads, load 1.5, INTERRUPTED after 12 of 60 epochs" in shown
    row = read_rows(tmp_path / "reproduced.csv")[0]
    assert (row["threads"], row["load"]) == ("2", "1.5")


def test_a_run_that_was_not_tested_and_one_that_kept_no_environment_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "runs" / "a", 0.8)
    (run / "environment.json").unlink()
    untested = tmp_path / "runs" / "b"
    untested.mkdir()
    (untested / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    record(
        [
            str(tmp_path / "runs"),
            "--results",
            str(tmp_path),
            "--commit",
            "abc1234",
            "--recipe",
            "unet_a",
        ]
    )
    said = capsys.readouterr().out
    assert f"{untested}: its best checkpoint was not tested" in said
    assert "hardware is not known" in said
    assert "commit is not known" not in said
    facts = load_results(tmp_path)[0].facts
    assert (facts.commit, facts.recipe) == ("abc1234", "unet_a")
    with pytest.raises(InputError, match="no run lies in"):
        record([str(tmp_path / "nothing")])


def test_the_order_and_the_ties_are_those_that_were_made(content: text.LeaderboardContent) -> None:
    image = content.boards[0]
    assert image.key.convention == "image"
    assert set(names(list(image.lines[:4]))) == {
        "unetplusplus x mobilenetv2_100",
        "unet x mobilenetv2_100",
        "attention_unet x mobilenetv2_100",
        "unet x mobilenetv2_100, skip=dca",
    }
    standings = {line.first.model: line.standing for line in image.lines}
    assert [line.standing for line in image.lines].count("leader") == 1
    assert "tied with the leader" in standings.values()
    assert standings["unet"] == standings["resunet x mobilenetv2_100"] == "behind the leader"


def test_a_line_is_the_mean_of_its_seeds_and_states_their_spread(
    content: text.LeaderboardContent,
) -> None:
    for board, form in zip(
        content.boards,
        (lambda c: per_image(c, "dice").mean(), lambda c: pooled(c, "dice")),
        strict=True,
    ):
        line = next(line for line in board.lines if line.first.model == "unet")
        each = [float(form(make_table(0.79, seed).of("polyp"))) for seed in (42, 43, 44)]
        assert line.ranking.value == pytest.approx(np.mean(each))
        assert line.ranking.sd_over_seeds == pytest.approx(np.std(each, ddof=1))
        assert [facts.seed for facts in line.facts] == [42, 43, 44]


@pytest.mark.parametrize(
    ("changes", "summary"),
    [
        ({"data.size": 128}, {}),
        ({}, {"protocol_digest": "000000000000"}),
        ({}, {"scored_at": "native size of the mask"}),
        ({}, {"split": "val"}),
        ({"data.dataset": "cvc_clinicdb"}, {}),
        ({}, {"class_name": "other"}),
    ],
)
def test_what_cannot_be_compared_never_shares_a_table(
    changes: dict[str, Any], summary: dict[str, Any], tmp_path: Path
) -> None:
    runs = [make_run(tmp_path / "a", 0.8), make_run(tmp_path / "b", 0.8, 42, changes, **summary)]
    results = [result for run in runs for result in results_of(run)]
    boards = make_boards(results)
    assert len(boards) == 4
    assert all(len(board.lines) == 1 for board in boards)
    assert len({result.facts.place for result in results}) == (1 if "class_name" in summary else 2)


def test_every_column_of_a_board_has_one_convention_and_its_published_values_too(
    recorded: Path, tmp_path: Path
) -> None:
    drive = {
        "data.dataset": "drive",
        "data.protocol": "drive",
        "model.encoder": None,
        "model.pretrained": False,
    }
    changes = drive | {
        "model.architecture": "sa_unet_v2",
        "data.size": None,
        "model.loss": {"bce": 0.5, "mcc": 0.5},
    }
    run = make_run(
        tmp_path / "a", 0.8, 42, changes, size="native", class_name="vessel", encoder_weights={}
    )
    (run / "environment.json").write_text(
        json.dumps({"command": ["fit", "--config=experiments/sa_unet_v2_drive.yaml"]})
    )
    boards = {b.key.convention: b for b in make_boards(results_of(run), [], read_evaluations())}
    shown = {c.title: c.text(boards["image"].lines[0]) for c in columns(boards["image"])}
    assert shown["published"] == "0.8282"
    value = per_image(make_table(0.8, 42).of("polyp"), "dice").mean()
    assert shown["difference"] == f"{value - 0.8282:+.4f}"
    assert "published" not in {c.title for c in columns(boards["pooled"])}, (
        "it was published as a mean over images"
    )


def test_published_results_on_other_images_stand_apart_with_the_nearest_protocol(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path / "runs" / "a", 0.8, 42, DCA)
    (run / "environment.json").write_text(
        json.dumps({"command": ["fit", "-c", "experiments/dca_unet_kvasir.yaml"]})
    )
    (tmp_path / "reported.csv").write_bytes((RESULTS / "reported.csv").read_bytes())
    content = leaderboard.collect(tmp_path, [tmp_path / "runs"])
    assert all(not line.published for board in content.boards for line in board.lines)
    found = [row for row in content.beside if row.ours]
    assert [(row.evaluation.convention, row.images) for row in found] == [
        ("batch25", "others; nearest is kvasir-800-200-v2")
    ]
    counts = make_table(0.8, 42).of("polyp")
    batches = [pooled(counts[i : i + 25], "dice") for i in range(0, 60, 25)]
    assert found[0].differences["dice"] == pytest.approx(np.mean(batches) - 0.8403)
    # three batches have no interval
    assert f"batch25: Dice {np.mean(batches):.4f}," in text.markdown(content)
    unclear = [row for row in content.beside if row.evaluation.convention == "unclear"]
    assert unclear
    assert all(not row.differences for row in unclear)


def test_every_published_score_is_compared_not_dice_alone(tmp_path: Path) -> None:
    sa_unet = {
        "data.dataset": "drive",
        "data.protocol": "drive",
        "data.size": None,
        "model.architecture": "sa_unet_v2",
        "model.encoder": None,
        "model.pretrained": False,
        "model.loss": {"bce": 0.5, "mcc": 0.5},
    }
    area = {"polyp": {"all": 0.97, "fov": 0.96}}
    run = make_run(tmp_path / "a", 0.8, 42, sa_unet, size="native", roc_auc=area)
    command = ["fit", "-c", "experiments/sa_unet_v2_drive.yaml"]
    (run / "environment.json").write_text(json.dumps({"command": command}))
    scored = [e for e in read_evaluations() if len(e.scores) == 7 and e.model == "sa_unet_v2"]
    [row] = [each for each in set_beside(scored, list(results_of(run))) if each.ours][:1]
    assert row.evaluation.convention == "image"
    counts = make_table(0.8, 42).of("polyp")
    for score in ("recall", "specificity", "accuracy", "mcc", "iou"):
        ours = per_image(counts, score).mean()
        assert row.differences[score] == pytest.approx(ours - row.evaluation.scores[score])
    assert row.differences["f1"] == pytest.approx(per_image(counts, "dice").mean() - 0.8282)
    assert "auc" not in row.differences, "ours is of all pixels together, the paper's of images"
    assert "pooled: AUC 0.9700" in row.scores


def test_every_system_of_unet_a_is_listed_and_what_it_would_take(tmp_path: Path) -> None:
    evaluations = [*read_evaluations(), *unscored_systems()]
    card = [e for e in evaluations if e.source.startswith("model card of Attention U-Net ConvNeXt")]
    encoders = [e.options.removeprefix("encoder=").partition(".")[0] for e in card]
    systems = set(zip((e.model for e in card), encoders, strict=True))
    assert len(systems) == 6 * 4
    rows = set_beside(evaluations, [])
    assert len(rows) == len(evaluations)
    assert all(row.needed for row in rows)
    alone = next(row for row in rows if row.evaluation.name == "pam_unet, attention=pla"
                 and row.evaluation.dataset == "kvasir_seg")  # fmt: skip
    assert alone.needed == "kvasir_seg; no weights; 3.5 hours a seed"
    assert any(row.needed.startswith("cannot be had: hardnet_mseg is not") for row in rows)


def test_what_the_fits_take_is_on_record_for_each() -> None:
    fits, _ = plan([*read_evaluations(), *unscored_systems()])
    known = read_efforts(RESULTS / "effort.csv")
    assert set(known) == {fit.point for fit in fits}
    for fit in fits[::40]:
        assert effort_of(fit) == known[fit.point]


def test_csv_holds_every_line_of_every_board(content: text.LeaderboardContent) -> None:
    rows = list(csv.DictReader(text.board_csv(content).splitlines()))
    assert len(rows) == sum(len(board.lines) for board in content.boards) == 12
    best = content.boards[0].lines[0]
    assert rows[0]["model"] == best.first.model
    assert float(rows[0]["dice"]) == pytest.approx(best.ranking.value, abs=5e-5)
    assert {row["digest"] for row in rows} == {"e4f391a18136"}
    assert {row["convention"] for row in rows} == {"image", "pooled"}


def test_the_page_names_every_model_escapes_what_it_shows_and_loads_nothing(
    content: text.LeaderboardContent,
) -> None:
    html = page.html(content)
    assert all(line.first.model in html for board in content.boards for line in board.lines)
    assert (
        html.count("<svg") == 5
    )  # cost, ranks and strips of one board, cost and ranks of the other
    assert "http" not in html.replace("http-equiv", "")
    assert "src=" not in html
    assert "<script>alert" not in page.html(_with_script(content))


def _with_script(content: text.LeaderboardContent) -> text.LeaderboardContent:
    board = content.boards[0]
    facts = replace(board.lines[0].first, architecture="<script>alert(1)</script>")
    line = replace(board.lines[0], facts=(facts,))
    return text.LeaderboardContent([replace(board, lines=(line, *board.lines[1:]))], [])


def test_a_recorded_table_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    record([str(make_run(tmp_path / "a", 0.8)), "--results", str(tmp_path)])
    [file] = tmp_path.glob("scores/*/*.csv")
    table = ScoreTable.read(file)
    table.counts[:, :, 0] += 30
    table.write(file)
    with pytest.raises(InputError, match=r"reproduced\.csv says 0\.\d+: one of them was changed"):
        leaderboard.collect(tmp_path)


def test_the_committed_leaderboard_is_the_one_that_its_results_make() -> None:
    content = leaderboard.collect()
    assert (RESULTS / "LEADERBOARD.md").read_text(encoding="utf-8") == text.markdown(content)
    assert (RESULTS / "leaderboard.csv").read_text(encoding="utf-8") == text.board_csv(content)


def test_committed_scores_are_those_of_their_tables() -> None:
    """reproduced.csv says of a recorded run what its per-image table says."""
    rows = [row for row in read_rows(RESULTS / "reproduced.csv") if row["table"]]
    tables = {result.facts.place.as_posix(): result.table for result in load_results(RESULTS)}
    assert {row["table"] for row in rows} == set(tables)
    for row in rows:
        if row["score"] in ("dice", "iou") and row["convention"] in ("image", "pooled"):
            counts = tables[row["table"]].of(row["class"])
            value = (
                per_image(counts, row["score"]).mean()
                if row["convention"] == "image"
                else pooled(counts, row["score"])
            )
            assert float(row["value"]) == pytest.approx(float(value), abs=6e-5)


def test_the_commands_are_known_and_nothing_to_show_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is recorded"):
        front.main(["leaderboard", "--results", str(tmp_path)])
    with pytest.raises(InputError, match="did you mean 'leaderboard'"):
        front.main(["leaderbord"])


def test_each_published_row_with_a_paper_of_ours_gives_overrides_of_its_recipe() -> None:
    built = 0
    for evaluation in read_evaluations():
        if evaluation.paper is None:
            continue
        try:
            changes = recipe_overrides(evaluation)
        except InputError:
            continue
        built += 1
        assert all(isinstance(part, str) for part in override_arguments(changes))
    assert built > 80
    recipes = {
        name for paper in PAPERS.values() for name in (*paper.recipes, *paper.elsewhere.values())
    }
    assert all((RESULTS.parent / f"{recipe}.yaml").is_file() for recipe in recipes)


def test_a_test_of_a_part_of_the_images_is_not_recorded_among_others(tmp_path: Path) -> None:
    whole, part = make_run(tmp_path / "a", 0.8), make_run(tmp_path / "b", 0.8, 43)
    table = make_table(0.8, 43)
    table.at(np.arange(20)).write(next(part.glob("test-*/*")) / "scores.csv")
    record([str(whole), "--results", str(tmp_path)])
    with pytest.raises(InputError, match=r"holds 20 images.*test the whole split"):
        record([str(part), "--results", str(tmp_path)])


def test_of_one_run_the_test_on_other_images_is_not_recorded_as_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "a", 0.8, data={"root": "", "digest": "00"})
    elsewhere = make_run(tmp_path / "b", 0.6, data={"root": "/other", "digest": "11"})
    [own], [other] = ([*each.glob("test-*")] for each in (run, elsewhere))
    # its name comes before that of the run's own data
    other.rename(own.with_name("test-elsewhere"))
    results = ["--results", str(tmp_path)]
    for _ in range(2):  # also where the first is there already
        with pytest.raises(InputError, match=r"test-elsewhere.* is of other images or masks than"):
            record([str(run), *results])
        [table] = tmp_path.glob("scores/*/*.csv")
        assert table.read_bytes() == next(own.glob("*/scores.csv")).read_bytes()
    with pytest.raises(InputError, match="is of other images"):
        record([str(run), *results, "--replace"])
    assert table.read_bytes() == next(own.glob("*/scores.csv")).read_bytes()


def test_the_same_network_with_test_time_augmentation_is_a_line_of_its_own(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", 0.8)
    more = make_run(tmp_path / "b", 0.85, inference="tta=flips-post=largest-")
    next(more.glob("test-*/tta*")).rename(
        next(run.glob("test-*")) / "tta=flips-post=largest-best-epoch=011-dice=0.9000-160"
    )
    last = next(run.glob("test-*/best*")).with_name("last-epoch=059-dice=0.8000-160")
    last.mkdir()
    summary = json.loads(next(run.glob("test-*/best*/summary.json")).read_text(encoding="utf-8"))
    (last / "summary.json").write_text(
        json.dumps(summary | {"checkpoint": "last-epoch=059-dice=0.8000.ckpt"})
    )
    board = make_boards(results_of(run))[0]
    assert names(list(board.lines)) == [
        "unet x mobilenetv2_100, tta=flips-post=largest",
        "unet x mobilenetv2_100",
    ]
