"""One step of a campaign, in a process of its own: ``python -m experiments.campaign_step NICENESS
LOCK fit ...``.

It gives way to other work, and ends when the process that started it ends, however that happened:
their pipe, its standard input, closes then. It ends as SIGTERM does, so that the last epoch is
kept.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from lightning_seg.__main__ import main
from lightning_seg.files.locks import locked

_GRACE = 60.0  # seconds for ending in order


def end_with_starter() -> None:
    """End this process once its standard input closes."""
    threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock would be held at the end of the process
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    os.nice(int(sys.argv[1]))
    end_with_starter()
    with locked(Path(sys.argv[2])):
        main(sys.argv[3:])
