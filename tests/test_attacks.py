"""The table of attacks counts what its tests came to, its page says what there is, and the lock holds what is pinned."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import attacks  # noqa: E402

PIN = re.compile(r"([\w.-]+)(?:\[\w+\])?==(\S+)")


def report(test, outcome="passed", when="call", **properties):
    state = {name: name == outcome for name in ("passed", "failed", "skipped")}
    found = list(properties.items())
    return SimpleNamespace(nodeid=test, when=when, user_properties=found, **state)


def test_a_row_counts_its_tests_and_what_they_tried():
    counts, file = attacks.AttackCounts(), attacks.KINDS[0].tests[0]
    for when in ("setup", "call", "teardown"):
        counts.pytest_runtest_logreport(report(f"{file}::a", when=when))
    counts.pytest_runtest_logreport(report(f"{file}::b", "failed"))
    counts.pytest_runtest_logreport(report(f"{file}::c", "failed", "setup"))
    counts.pytest_runtest_logreport(report(f"{file}::d", "skipped", "setup"))
    counts.pytest_runtest_logreport(report("tests/fuzz/test_readers.py::e", attacks=40))
    counts.pytest_runtest_logreport(report("tests/test_other.py::f"))
    table = attacks.attack_table(counts)
    assert f"| {attacks.KINDS[0].name} | 3 | 1 |" in table
    assert "| 40 | 40 |" in table
    assert len(table.splitlines()) == 4
    others = attacks.AttackCounts()
    others.pytest_runtest_logreport(report(f"{file}::a"))
    anew = attacks.attack_table(others, table).splitlines()
    assert anew[2].startswith(f"| {attacks.KINDS[0].name} | 1 | 1 |")
    assert anew[:2] + anew[3:] == table.splitlines()[:2] + table.splitlines()[3:]


def test_each_kind_has_tests_and_the_page_no_other_rows():
    text = attacks.PAGE.read_text(encoding="utf-8")
    page = text.partition(attacks.BEGIN)[2].partition(attacks.END)[0]
    for kind in attacks.KINDS:
        for name in kind.tests:
            assert (ROOT / name.partition("::")[0]).is_file(), name
    rows = re.findall(r"\| (.+) \| ([\d,]+) \| ([\d,]+) \|", page)
    assert {name for name, _, _ in rows} <= {kind.name for kind in attacks.KINDS}
    assert all(tried == survived for _, tried, survived in rows)


def test_the_lock_holds_every_pin_with_hashes_and_names_no_host():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {}
    for entry in re.split(r"\n(?=[a-zA-Z])", text):
        name, _, rest = entry.partition("==")
        locked.setdefault(plain(name), []).append(rest.split()[0])
        assert "--hash=sha256:" in entry, name
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = {plain(pin[1]): pin[2] for pin in map(PIN.match, lines) if pin}
    held = {name: version for name, version in pins.items() if name in locked}
    for name, version in held.items():
        assert version in locked[name], f"{name}=={version}: make lock"
    assert len(held) >= 0.95 * len(pins), "make lock"
    assert "://" not in text


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()
