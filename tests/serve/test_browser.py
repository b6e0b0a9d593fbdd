"""The page in a real browser, of a real server."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from PIL import Image

import lightning_seg as ls
from lightning_seg.data.sources.phantom import render_phantom
from tests.inference.conftest import write_checkpoint
from tests.serve.browser import BINARY, Browser

pytestmark = pytest.mark.slow
SIDE = 200


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(
        tmp_path_factory.mktemp("serve") / "demo.ckpt", classes=["polyp", "tool"]
    )


@pytest.fixture(scope="module")
def server(checkpoint):
    command = [
        sys.executable,
        "-m",
        "lightning_seg",
        "serve",
        "--ckpt_path",
        str(checkpoint),
        "--port",
        "0",
    ]
    process = subprocess.Popen(
        [*command, "--max_mb", "0.3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    line = process.stdout.readline()
    address = re.search(r"page:  (http://127\.0\.0\.1:\d+)", line)
    assert address, line + process.stdout.read()
    yield address[1]
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert out == "ended\n", "Ctrl-C ends it quietly"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if BINARY is None:
        pytest.skip("no Chromium on this machine")
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


@pytest.fixture
def page(server, browser):
    browser.open(server)
    browser.wait(lambda: text(browser, "#title") == "demo")
    browser.complaints.clear()
    yield browser
    assert browser.complaints == []


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    image, _ = render_phantom("polyp", 42, 1, SIDE)
    file = tmp_path_factory.mktemp("pictures") / "phantom.png"
    Image.fromarray(image[:160]).save(file)
    return file


def text(browser, selector):
    return browser.run(f"document.querySelector({json.dumps(selector)}).innerText")


def drop(browser, file):
    """On the stage; returns what the page says in the end."""
    x, y = browser.run(
        "(r => [r.x + r.width / 2, r.y + 60])(document.getElementById('stage').getBoundingClientRect())"
    )
    browser.drop(file, x, y)
    return browser.wait(lambda: said(browser))


def said(browser):
    return browser.run(
        "document.getElementById('error').textContent || (document.querySelector('#stage:not(.busy)') && "
        "/pixels/.test(document.getElementById('status').textContent) && document.getElementById('status').textContent)"
    )


def canvas(browser):
    """(H, W, 3) of what is drawn."""
    found = browser.run("document.getElementById('canvas').toDataURL()")
    with urllib.request.urlopen(found) as data:
        return np.asarray(Image.open(io.BytesIO(data.read())).convert("RGB")).astype(int)


def slide(browser, name, value):
    """As a hand does, and when it is drawn."""
    browser.run(
        f"new Promise((done) => {{ const slider = document.getElementById('{name}'); slider.value = {value}; "
        "slider.dispatchEvent(new Event('input')); requestAnimationFrame(() => requestAnimationFrame(() => done(1))); })"
    )


def rows(browser):
    return browser.run(
        "[...document.querySelectorAll('#classes tr')].map((row) => [...row.cells].map((c) => c.innerText))"
    )


def test_a_dropped_picture_gets_its_overlay_and_its_table(page, checkpoint, picture):
    assert f"phantom.png: {SIDE} x 160 pixels" in drop(page, picture)
    prediction = ls.load(checkpoint).predict(picture)
    assert [row[:5] for row in rows(page)] == [
        [
            found.name,
            f"{100 * found.share:.1f} %",
            str(found.components),
            f"{found.confidence:.2f}",
            f"{found.expected_dice:.2f}",
        ]
        for found in prediction.findings()
    ]
    slide(page, "opacity", 0)
    plain = canvas(page)
    assert abs(plain - np.asarray(Image.open(picture))).max() == 0
    slide(page, "opacity", 100)
    page.run("document.querySelectorAll('#classes input')[1].click()")
    np.testing.assert_array_equal((canvas(page) == (64, 224, 96)).all(2), prediction.mask[0])
    np.testing.assert_array_equal(canvas(page)[~prediction.mask[0]], plain[~prediction.mask[0]])


def test_the_threshold_is_applied_in_the_page(page, checkpoint, picture):
    drop(page, picture)
    slide(page, "opacity", 100)
    page.run("document.querySelectorAll('#classes input')[1].click()")
    for percent in (37, 81):
        slide(page, "threshold", percent)
        [expected, _] = ls.load(checkpoint, threshold=percent / 100).predict(picture).findings()
        mask = ls.load(checkpoint, threshold=percent / 100).predict(picture).mask[0]
        np.testing.assert_array_equal((canvas(page) == (64, 224, 96)).all(2), mask)
        _, area, components, confidence, dice, _ = rows(page)[0]
        assert (area, components) == (f"{100 * expected.share:.1f} %", str(expected.components))
        assert float(confidence) == pytest.approx(expected.confidence, abs=0.011)
        assert float(dice) == pytest.approx(expected.expected_dice, abs=0.011)
    page.run("document.getElementById('reset').click()")
    assert text(page, "#threshold-value") == "0.50"


def test_masks_are_downloaded(page, checkpoint, picture, tmp_path):
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    drop(page, picture)
    for percent, name in (
        (50, "phantom_tool_mask.png"),
        (30, "phantom_tool_threshold-30_mask.png"),
    ):
        slide(page, "threshold", percent)
        page.run("document.querySelectorAll('#classes button')[1].click()")
        page.wait((tmp_path / name).exists)
        mask = ls.load(checkpoint, threshold=percent / 100).predict(picture).mask[1]
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / name).convert("L")), mask * 255
        )


@pytest.mark.parametrize("suffix", ["tif", "webp", "png", "jpg"])
def test_the_picture_is_shown_as_the_network_saw_it(page, picture, tmp_path, suffix):
    turned = Image.Exif()
    turned[0x0112] = 3  # browsers show no TIFF, and turn no WebP
    file = tmp_path / f"turned.{suffix}"
    Image.open(picture).save(file, exif=turned)
    page.choose("#file", file)
    assert f"{file.name}: 200 x 160 pixels" in page.wait(lambda: said(page))
    slide(page, "opacity", 0)
    assert abs(canvas(page) - np.asarray(Image.open(picture))[::-1, ::-1]).mean() < 6


def test_a_file_that_is_too_large_or_no_picture_is_a_sentence(page, tmp_path):
    (tmp_path / "large.png").write_bytes(os.urandom(700_000))
    assert (
        drop(page, tmp_path / "large.png") == "large.png is 0.7 MB; the server takes up to 0.3 MB."
    )
    (tmp_path / "notes.txt").write_text("no picture")
    page.run("document.getElementById('error').textContent = ''")
    assert "notes.txt is no picture that can be read" in drop(page, tmp_path / "notes.txt")
    assert any("415" in each for each in page.complaints)  # the browser's own line
    page.complaints.clear()


def test_the_keyboard_reaches_everything_and_everything_has_a_name(page, picture):
    drop(page, picture)
    page.run("document.activeElement.blur()")
    reached = []
    for _ in range(7):
        page.press("Tab", 9)
        reached.append(
            page.run(
                "document.activeElement.id || document.activeElement.getAttribute('aria-label')"
            )
        )
    assert reached == [
        *("file", "opacity", "threshold", "show polyp", "Download the mask of polyp as PNG"),
        *("show tool", "Download the mask of tool as PNG"),
    ]
    tree = page.send("Accessibility.getFullAXTree")["nodes"]
    named = {
        (node["role"]["value"], node["name"]["value"])
        for node in tree
        if "role" in node and "name" in node
    }
    assert {("slider", "Opacity"), ("slider", "Threshold"), ("checkbox", "show polyp")} <= named
    assert any(
        role == "image" and name.startswith("phantom.png, with polyp") for role, name in named
    )


def test_nothing_is_cut_off_on_a_narrow_screen(page, picture):
    page.resize(400, 900)
    drop(page, picture)
    assert page.run("document.documentElement.scrollWidth") <= 400
