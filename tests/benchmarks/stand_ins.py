"""Stand-ins for trainings that take turns. A process of each imports this file: no more than they need."""

import time
from pathlib import Path
from typing import Any

import torch

from benchmarks._fits import FIRST_STEPS, Turns

CPU = torch.device("cpu")


def count_steps(connection: Any, file: Path) -> None:
    """A training whose steps are lines of a file."""
    turns = Turns(connection, CPU, {"name": file.stem})
    while True:
        with file.open("a", encoding="utf-8") as steps:
            steps.write("step\n")
        turns.step(2, torch.tensor(0.5))


def break_down(connection: Any) -> None:
    raise ValueError("no such batch")


def break_down_later(connection: Any) -> None:
    turns = Turns(connection, CPU, {})
    for _ in range(FIRST_STEPS):
        turns.step(1, torch.tensor(0.5))
    raise ValueError("out of memory")


def hang_later(connection: Any) -> None:
    turns = Turns(connection, CPU, {})
    for _ in range(FIRST_STEPS):
        turns.step(1, torch.tensor(0.5))
    time.sleep(1000)
