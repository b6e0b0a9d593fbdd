"""The conditions under which the trials of a study were trained: this project's code, the packages
beneath it, and the encoder's weights. Trials are ranked among each other, so these stand beside
each of them."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

import optuna
from optuna.trial import FrozenTrial

from hpo.trial_messages import CODE, DATA, WEIGHTS
from lightning_seg.errors import InputError
from lightning_seg.tables import count_text

_ROOMS = ("lightning_seg", "hpo")


@cache
def code_text() -> str:
    """The commit of this project, with a digest of its files where they are not those of a commit,
    and the versions of the packages that compute."""
    from lightning_seg.runs.environment import PACKAGES, ROOT, package_version, project_commit

    commit, own = project_commit(), ""
    if commit == "unknown" or commit.endswith("-dirty"):
        files = sorted(file for room in _ROOMS for file in (ROOT / room).rglob("*.py"))
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files))
        own = f" (files {digest.hexdigest()[:8]})"
    versions = (f"{name} {package_version(name)}" for name in PACKAGES)
    return ", ".join([f"commit {commit}{own}", *versions])


def weights_labels(origin: Mapping[str, str]) -> dict[str, str]:
    """The label of a trial for the file from which its encoder started; none where there is none.

    Args:
        origin: name and sha256, as `SegmentationModule.origin`.
    """
    return {f"{WEIGHTS} {origin['name']}": origin["sha256"]} if origin else {}


def conditions_of(trials: Iterable[FrozenTrial]) -> dict[str, set[str]]:
    """Label of data or weights -> the digests that trials have for it."""
    found: dict[str, set[str]] = {}
    for trial in trials:
        for key, value in trial.user_attrs.items():
            if key.partition(" ")[0] in (DATA, WEIGHTS):
                found.setdefault(key, set()).add(value)
    return found


def check_weights(study: optuna.Study) -> None:
    """InputError where an encoder would start from another file than in earlier trials."""
    for label, digests in conditions_of(study.get_trials(deepcopy=False)).items():
        kind, _, name = label.partition(" ")
        found = _present_weights(name) if kind == WEIGHTS else {}
        if found and found["sha256"] not in digests:
            sha256 = min(digests)
            raise InputError(
                f"{found['file']}, from which the encoder {name} starts, is another file than that "
                f"of the trials of study {study.study_name!r} (sha256 {found['sha256'][:8]}, not "
                f"{sha256[:8]}); restore it, or give another --study."
            )


def _present_weights(name: str) -> dict[str, str]:
    """File and sha256 of what a training would load; empty where it is not on this machine."""
    from lightning_seg.models.frame.weights import describe_weights, find_weights

    try:
        return describe_weights(find_weights(name, download=False))
    except InputError:
        return {}


def code_warning(trials: Iterable[FrozenTrial], ahead: bool = False) -> str:
    """A sentence where trials were trained by unlike code; empty where all are alike.

    Args:
        ahead: trials are to come, by the code of now.
    """
    known = Counter(t.user_attrs[CODE] for t in trials if CODE in t.user_attrs)
    parts = [f"{count_text(number, 'trial')} by {code}" for code, number in known.items()]
    if ahead and known and code_text() not in known:
        parts.append(f"those to come by {code_text()}")
    if len(parts) < 2:
        return ""
    return (
        f"warning: trials of unlike code are ranked together ({'; '.join(parts)}); where that may "
        "move a score, give another --study."
    )
