"""``python -m experiments <command>``: a demonstration, sweeps, what they found, and published
results run again."""

import sys
import time
from importlib import import_module
from pathlib import Path

from lightning_seg.errors import one_sentence, unknown

RECIPES = Path(__file__).parent
HOMES = {  # command -> the module whose `main` takes the arguments after it
    "check": "experiments.check",
    "leaderboard": "experiments.leaderboard.__main__",
    "record": "experiments.record",
    "reproduce": "experiments.reproduce",
    "sweep": "experiments.sweep",
}


def demo() -> None:
    """The quickstart recipe from training to masks, in one process."""
    from lightning_seg.cli import run
    from lightning_seg.inference.__main__ import main as predict

    start = time.monotonic()
    print(
        "demo: a small U-Net on phantom, SYNTHETIC images made for this; their scores say nothing about real ones",
        flush=True,
    )
    fit = run(["fit", "-c", str(RECIPES / "quickstart.yaml"), "--name", "demo"])
    checkpoint = fit.trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    run(["test", "--ckpt_path", checkpoint])
    predict(["--ckpt_path", checkpoint])
    minutes = (time.monotonic() - start) / 60
    folder = Path(fit.trainer.log_dir or "")
    print(
        f"\ndemo: done in {minutes:.1f} minutes\n"
        f"  checkpoint    {checkpoint}\n"
        f"  overlays      {next(folder.glob('predictions/*/contact_sheet.png'))}  (any image viewer)\n"
        f"  TensorBoard   .venv/bin/tensorboard --logdir runs  (then open the address that it prints)\n"
        f"  next          .venv/bin/lightning-seg fit -c experiments/quickstart.yaml --model.architecture attention_unet"
    )


def main(args: list[str]) -> None:
    if args[:1] in (["-h"], ["--help"]):
        print(f"{__doc__}\n\ncommands: demo, {', '.join(HOMES)}; each has a --help of its own.")
    elif args == ["demo"]:
        demo()
    elif args and args[0] in HOMES:
        if "--storage" in str(args):
            import_module("hpo.storage").hide_password()
        import_module(HOMES[args[0]]).main(args[1:])
    else:
        raise unknown("command of experiments", " ".join(args), ["demo", *HOMES])


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
