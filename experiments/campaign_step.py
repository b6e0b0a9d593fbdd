"""One step of a campaign, in a process of its own: ``python -m experiments.campaign_step NICENESS
LOCK fit ...``.

It gives way to other work, and ends with the process that started it, as each of
`lightning_seg.files.steps` does.
"""

import os
import sys
from pathlib import Path

from lightning_seg.__main__ import main
from lightning_seg.files.locks import locked
from lightning_seg.files.steps import begin_step

if __name__ == "__main__":
    os.nice(int(sys.argv[1]))
    begin_step()
    with locked(Path(sys.argv[2])):
        main(sys.argv[3:])
