"""``python drive.py '{"storage": ..., "trials": 8, ...}'``: a launcher of a study over a stand-in, without the checks of a recipe."""

import json
import sys

from hpo.slots import WorkerSlot
from hpo.spec import StudySpec
from hpo.study import launch

DEFAULTS = {
    "recipe": "none.yaml",
    "digest": "0",
    "args": [],
    "points": [],
    "sampler": "random",
    "pruner": "none",
    "grace": 3.0,
}


def make_spec(runs, trials, function="objectives:nap", **settings):
    space = None if settings.get("points") else {"x": {"float": [0.0, 1.0]}}
    content = {"runs": runs, "trials": trials, "function": function, "space": space}
    return StudySpec.load(json.dumps(DEFAULTS | content | settings))


def main(storage, study, runs, trials, workers=2, minutes=None, again=False, own=None, **settings):
    environment = {"OMP_NUM_THREADS": "1"} | (own or {})
    places = [WorkerSlot(number, environment) for number in range(workers)]
    launch(make_spec(runs, trials, **settings), storage, study, places, minutes, again)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
