"""The endpoint: its masks are those of `predict`, it keeps its limits, and every refusal is one sentence."""

import asyncio
import base64
import io
import json
import socket
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from starlette.requests import ClientDisconnect, Request
from starlette.testclient import TestClient

import lightning_seg as ls
from lightning_seg.__main__ import main as front
from lightning_seg.data.show import COLOURS
from lightning_seg.data.sources.phantom import render_phantom
from lightning_seg.errors import InputError
from lightning_seg.inference.pictures import overlay
from lightning_seg.serve import listen
from lightning_seg.serve._address import is_loopback
from lightning_seg.serve._answer import levels
from lightning_seg.serve._facts import facts
from lightning_seg.serve._limits import Limits, RequestError
from lightning_seg.serve._upload import receive
from lightning_seg.serve.app import Queue, create_app
from tests.inference.conftest import not_finite, write_checkpoint

LIMITS = Limits(bytes=200_000, pixels=10_000)


def served(predictor, paths, limits=LIMITS, host="127.0.0.1"):
    app = create_app(predictor, facts(predictor, paths, limits), limits, host)
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("serve") / "polyp.ckpt")


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return ls.load(checkpoint)


@pytest.fixture(scope="module")
def client(predictor, checkpoint):
    with served(predictor, [checkpoint]) as client:
        yield client


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    file = write_checkpoint(
        tmp_path_factory.mktemp("serve") / "two.ckpt", classes=["liver", "tumor"]
    )
    predictor = ls.load(file, postprocess="tumor:keep_largest", threshold=0.4)
    with served(predictor, [file]) as client:
        yield client, predictor


def picture(number=0, suffix="png", **options):
    image, _ = render_phantom("polyp", 42, number, 96)
    file = io.BytesIO()
    Image.fromarray(image[:80]).save(
        file, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix), **options
    )
    return file.getvalue()


def send(client, content, name="a.png", **options):
    return client.post("/api/predict", files={"file": (name, content)}, **options)


def opened(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def sentence(answer, status):
    assert answer.status_code == status, answer.text
    [text] = answer.json().values()
    assert answer.json() == {"error": text}
    assert text.endswith(".")
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "gif", "bmp"])
def test_the_mask_is_exactly_that_of_predict(client, predictor, tmp_path, suffix):
    content = picture(1, suffix)
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(content)
    expected = predictor.predict(file)
    answer = send(client, content, file.name).json()
    [found] = answer["classes"]
    np.testing.assert_array_equal(opened(found["mask"]), expected.mask[0] * 255)
    assert 0 < expected.mask.mean() < 1
    assert (answer["file"], answer["width"], answer["height"]) == (file.name, 96, 80)
    [same] = expected.findings()
    for key in ("area", "share", "components", "confidence"):
        assert found[key] == pytest.approx(getattr(same, key))


def test_a_turned_photograph_is_turned_as_predict_does(client, predictor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned.jpg").write_bytes(picture(2, "jpg", exif=exif))
    answer = send(client, (tmp_path / "turned.jpg").read_bytes(), "turned.jpg").json()
    assert (answer["width"], answer["height"]) == (80, 96)
    np.testing.assert_array_equal(
        opened(answer["classes"][0]["mask"]) > 0, predictor.predict(tmp_path / "turned.jpg").mask[0]
    )


def test_a_body_that_is_the_picture_and_a_form_give_the_same(client):
    content = picture(3)
    raw = client.post(
        "/api/predict?name=b.png", content=content, headers={"Content-Type": "image/png"}
    ).json()
    form = send(client, content, "b.png").json()
    raw.pop("seconds"), form.pop("seconds")
    assert raw == form


def test_who_accepts_a_png_gets_the_mask(client, predictor, two_classes):
    content = picture(1)
    answer = send(client, content, headers={"Accept": "image/png, */*;q=0.1"})
    assert answer.headers["content-type"] == "image/png"
    image = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(answer.content))) > 0, predictor.predict(image).mask[0]
    )
    several, other = two_classes
    one = several.post("/api/predict?class=tumor", content=content, headers={"Accept": "image/png"})
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(one.content))) > 0, other.predict(image).mask[1]
    )
    assert "such as ?class=liver" in sentence(
        send(several, content, headers={"Accept": "image/png"}), 400
    )
    wrong = several.post(
        "/api/predict?class=tumour", content=content, headers={"Accept": "image/png"}
    )
    assert "did you mean 'tumor'" in sentence(wrong, 400)
    for name in ("tumor", "foo"):  # of no use for JSON
        unused = several.post(f"/api/predict?class={name}", content=content)
        assert "JSON holds those of all classes" in sentence(unused, 400)


def test_an_option_that_is_none_is_refused(client):
    for option, expected in (("threshold=.9", "'threshold'; there are"), ("klass=a", "'class'?")):
        for headers in ({}, {"Accept": "image/png"}):
            answer = client.post(f"/api/predict?{option}", content=picture(), headers=headers)
            assert expected in sentence(answer, 400)
    form = client.post(
        "/api/predict", files={"file": ("a.png", picture())}, data={"threshold": "0.9"}
    )
    assert "'threshold'" in sentence(form, 400)


def test_each_class_has_its_colour_and_its_post_processing(two_classes):
    client, predictor = two_classes
    content = picture(4)
    answer = send(client, content).json()
    expected = predictor.predict(np.asarray(Image.open(io.BytesIO(content))))
    for found, mask, name, colour in zip(
        answer["classes"], expected.mask, ("liver", "tumor"), COLOURS, strict=False
    ):
        np.testing.assert_array_equal(opened(found["mask"]) > 0, mask)
        assert found["name"] == name
        assert found["colour"] == "#" + bytes(colour).hex()
    assert answer["classes"][1]["components"] <= 1
    assert answer["threshold"] == 0.4
    assert answer["postprocess"] == "tumor:keep_largest"


def test_probabilities_overlay_and_picture_come_on_request(client, predictor):
    content = picture(5)
    image = np.asarray(Image.open(io.BytesIO(content)))
    answer = client.post("/api/predict?include=probability,overlay,picture", content=content).json()
    probability = predictor.predict(image).probability[0]
    level = opened(answer["classes"][0]["probability"])
    for percent in range(101):
        np.testing.assert_array_equal(level > percent, probability > percent / 100)
    assert abs(opened(answer["picture"]).astype(int) - image).mean() < 4
    mask = torch.from_numpy(predictor.predict(image).mask)
    expected = overlay(torch.tensor(image.transpose(2, 0, 1)), mask)
    _, jpeg = cv2.imencode(".jpg", expected[..., ::-1])
    decoded = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(opened(answer["overlay"]), decoded)
    drawn = abs(opened(answer["overlay"]).astype(int) - opened(answer["picture"])).sum(2) > 60
    mask = predictor.predict(image).mask[0]
    assert drawn[cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0].mean() > 0.6
    assert drawn[cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) == 0].mean() < 0.1
    assert not {"overlay", "picture"} & send(client, content).json().keys()
    assert "did you mean 'overlay'" in sentence(
        client.post("/api/predict?include=overlai", content=content), 400
    )


def test_levels_hold_at_every_percent_and_at_both_ends():
    edges = (np.arange(101) / 100).astype(np.float32)
    values = np.concatenate(
        [edges, np.nextafter(edges, np.float32(2)), np.nextafter(edges, np.float32(-1))]
    )[None]
    for percent in range(101):
        np.testing.assert_array_equal(levels(values) > percent, values > percent / 100)


def test_the_model_is_described(client, checkpoint, tmp_path):
    model = client.get("/api/model").json()
    assert model["architecture"] == "unet"
    assert model["classes"] == [{"name": "polyp", "colour": "#40e060"}]
    assert model["dataset"] == "kvasir_seg"
    assert model["size"] == 32
    assert model["scores"] == []
    assert model["limits"] == {"bytes": 200_000, "pixels": 10_000}
    assert "Not a medical device" in model["notice"]
    assert client.get("/health").json() == {"status": "ok"}


def test_scores_are_those_of_this_checkpoint_used_in_this_way(tmp_path):
    folder = tmp_path / "demo" / "version_0"
    (folder / "checkpoints").mkdir(parents=True)
    file = write_checkpoint(folder / "checkpoints" / "best.ckpt")
    for name, change in {
        "best-32": {},
        "tta=flips-best-32": {"inference": {"tta": "flips", "postprocess": "", "ensemble": []}},
        "last-32": {"checkpoint": "elsewhere/last.ckpt"},
    }.items():
        summary = {
            "checkpoint": "elsewhere/best.ckpt",
            "split": "test",
            "dataset": "kvasir_seg",
            "protocol": "p",
            "images": 9,
            "scored_at": "network size",
            "threshold": 0.5,
            "inference": {"tta": "none", "postprocess": "", "ensemble": []},
            "scores": {
                "polyp": {"dice": {"image": {"value": 0.1 * len(name), "interval": [0.0, 1.0]}}}
            },
        } | change
        (folder / "test-p" / name).mkdir(parents=True)
        (folder / "test-p" / name / "summary.json").write_text(json.dumps(summary))
    [score] = facts(ls.load(file), [file], LIMITS)["scores"]
    assert (score["value"], score["convention"], score["images"]) == (
        pytest.approx(0.7),
        "image",
        9,
    )
    [score] = facts(ls.load(file, tta="flips"), [file], LIMITS)["scores"]
    assert score["value"] == pytest.approx(1.7)
    assert facts(ls.load([file, file]), [file, file], LIMITS)["scores"] == []


def bomb(width, height):
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [head, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    data = b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "no file was sent"),
        (b"plain text", 415, "a.png is no picture that can be read; send one of the formats BMP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", 415, "is no picture"),
        (picture()[:2000], 400, "a.png cannot be decoded"),
        (picture()[:20], 400, "a.png cannot be decoded"),
        (picture(0, "webp")[:40], 400, "a.png cannot be decoded"),
        (b"BM" + bytes(60), 400, "a.png cannot be decoded"),
        (b"P6 4x 4 255 " + bytes(48), 400, "a.png cannot be decoded"),
        (bomb(200, 100), 413, "a.png has 200 x 100 pixels, more than the 10,000 allowed"),
        (bomb(60_000, 60_000), 413, "too many pixels"),
        (b"\x89PNG" + bytes(210_000), 413, "larger than 0.2 MB"),
        (bytes(900_000), 413, "larger than 0.2 MB"),
    ],
)
def test_what_cannot_be_predicted_is_a_sentence_with_its_status(client, content, status, words):
    assert words in sentence(send(client, content), status)


def test_a_transparent_picture_is_refused_as_predict_refuses_it(client):
    file = io.BytesIO()
    Image.new("RGBA", (9, 9), (1, 2, 3, 100)).save(file, "png")
    assert "a.png has transparent pixels" in sentence(send(client, file.getvalue()), 400)


def test_a_form_without_a_file_or_with_several_is_a_sentence(client):
    boundary = {"Content-Type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--b--\r\n'
    assert "no file was sent" in sentence(
        client.post("/api/predict", content=part, headers=boundary), 400
    )
    broken = client.post(
        "/api/predict", content=b"x", headers={"Content-Type": "multipart/form-data"}
    )
    assert "Missing boundary" in sentence(broken, 400)
    several = client.post("/api/predict", files=[("file", ("a", b"1")), ("file", ("b", b"2"))])
    assert "send one picture" in sentence(several, 400)


def test_the_name_of_a_file_is_cut_to_what_can_be_printed(client):
    text = sentence(
        client.post(
            "/api/predict", params={"name": "../../etc/\x1b[31mevil" + "x" * 200}, content=b"no"
        ),
        415,
    )
    assert text.startswith("x" * 100 + " is no picture")


def asking(chunks, length=None):
    """A request whose body comes in chunks, each of which may be a pause in seconds."""
    waiting = iter(chunks)
    taken = []

    async def receive_chunk():
        chunk = next(waiting)
        if isinstance(chunk, float):
            await asyncio.sleep(chunk)
            chunk = b""
        taken.append(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}

    headers = [(b"content-length", str(length).encode())] if length else []
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    return Request(scope, receive_chunk), taken


def test_a_file_that_is_too_large_is_refused_before_it_has_arrived():
    request, taken = asking([bytes(100_000)] * 1000)  # says nothing of its length
    with pytest.raises(RequestError, match="larger than") as caught:
        asyncio.run(receive(request, LIMITS))
    assert caught.value.status == 413
    assert len(taken) == 3
    request, taken = asking([bytes(100_000)] * 1000, length=100_000_000)
    with pytest.raises(RequestError, match="larger than"):
        asyncio.run(receive(request, LIMITS))
    assert taken == []


def test_a_file_that_comes_too_slowly_is_refused():
    request, _ = asking([b"a", 5.0])
    with pytest.raises(RequestError, match=r"did not arrive within 0\.05 seconds"):
        asyncio.run(receive(request, LIMITS._replace(upload_seconds=0.05)))


def test_who_finds_no_place_is_sent_away_and_one_picture_is_predicted_at_a_time(
    predictor, checkpoint
):
    going, running, most = threading.Event(), [], []
    predict = predictor.predict_read

    class Slow:
        network, rule, classes = predictor.network, predictor.rule, predictor.classes

        def predict_read(self, pictures):
            running.append(1)
            most.append(len(running))
            going.wait(20)
            running.pop()
            return predict(pictures)

    with served(Slow(), [checkpoint], LIMITS._replace(places=2)) as client:
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(send(client, picture())))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        while not answers:
            threads[0].join(0.01)
        going.set()
        for thread in threads:
            thread.join()
        assert "2 pictures are being predicted already" in sentence(answers[0], 503)
        assert answers[0].headers["retry-after"] == "5"
        assert [answer.status_code for answer in answers[1:]] == [200, 200]
        assert set(most) == {1}
        assert send(client, picture()).status_code == 200


def test_a_prediction_that_takes_too_long_is_a_sentence():
    going = threading.Event()
    queue = Queue(LIMITS._replace(predict_seconds=0.05))
    with pytest.raises(RequestError, match=r"longer than 0\.05 seconds") as caught:
        asyncio.run(queue.run(asking([5.0])[0], lambda: going.wait(20)))
    going.set()
    queue.close()
    assert caught.value.status == 503


def test_who_has_left_is_not_predicted():
    async def leave():
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "headers": []}, leave)
    with pytest.raises(ClientDisconnect):
        asyncio.run(Queue(LIMITS).run(request, lambda: pytest.fail("it was predicted")))


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ZeroDivisionError("a secret"), 500, "could not be predicted"),
        (InputError("it does not fit into the memory of cuda:0."), 400, "does not fit"),
        (MemoryError(), 503, "too large for the memory"),
    ],
)
def test_an_error_of_the_prediction_is_a_sentence_too(predictor, checkpoint, error, status, words):
    class Broken:
        network, rule, classes = predictor.network, predictor.rule, predictor.classes

        def predict_read(self, pictures):
            raise error

    with served(Broken(), [checkpoint]) as client:
        answer = send(client, picture())
    text = sentence(answer, status)
    assert words in text
    assert "secret" not in text
    assert "content-security-policy" in answer.headers


def test_a_network_that_gives_no_numbers_is_a_sentence_in_every_format(tmp_path):
    file = not_finite(tmp_path / "nan.ckpt", float("nan"))
    with served(ls.load(file), [file]) as client:
        for accept in ("application/json", "image/png"):
            answer = client.post("/api/predict", content=picture(), headers={"Accept": accept})
            assert "the network gives NaN" in sentence(answer, 500)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST"])
def test_the_names_of_loopback_are_answered(client, host):
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "10.0.0.7", "127.0.0.1.evil.example", "", "[::1", "localhost.x"]
)
def test_a_foreign_name_for_this_machine_is_refused(client, host):
    assert "is not known as" in sentence(client.get("/api/model", headers={"Host": host}), 403)


def test_a_server_for_others_answers_to_addresses_and_its_own_name(predictor, checkpoint):
    with served(predictor, [checkpoint], host="0.0.0.0") as client:
        for host in ("10.0.0.7:8000", socket.gethostname(), "[fe80::1]:80"):
            assert client.get("/health", headers={"Host": host}).status_code == 200
        assert client.get("/health", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://[",
        "",
        "http://127.0.0.1:9000",
        "https://localhost:8000",
    ],
)
def test_a_foreign_page_may_not_send(client, origin):
    assert "may not send" in sentence(send(client, picture(), headers={"Origin": origin}), 403)


def test_the_own_page_may_send_and_no_foreign_page_may_read(client):
    answer = send(client, picture(), headers={"Origin": "http://127.0.0.1:8000"})
    assert answer.status_code == 200
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_needs_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for path in ("/", "/page.js", "/page.css"):
        assert "://" not in client.get(path).text
    assert "style=" not in page.text
    assert "text/javascript" in client.get("/page.js").headers["content-type"]


def test_other_places_and_methods_are_a_sentence(client):
    assert "there is no GET /api/masks" in sentence(client.get("/api/masks"), 404)
    assert "there is no GET /api/predict" in sentence(client.get("/api/predict"), 405)


def test_a_port_that_is_taken_is_a_sentence(checkpoint, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as caught:
            front(["serve", "--ckpt_path", str(checkpoint), "--port", port])
    assert caught.value.code == 2
    assert (
        f"cannot listen on 127.0.0.1 port {port} (Address already in use)"
        in capsys.readouterr().err
    )


def test_a_host_that_others_reach_is_warned_of(capsys):
    listen("127.0.0.1", 0).close()
    assert capsys.readouterr().err == ""
    listen("0.0.0.0", 0).close()
    assert "there is no encryption" in capsys.readouterr().err
    assert is_loopback("::1")
    assert is_loopback("127.0.0.2")
    assert not is_loopback("example.org")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "99999"], "--port is 99999"),
        (["--max-mb", "0"], "--max_mb is 0"),
        (["--max_mb", "nan"], "--max_mb is nan"),
        (["--max_pixels", "0"], "--max_pixels is 0"),
        (["--tta", "flip"], "did you mean 'flips'"),
        (["--threshold", "2"], "the threshold is 2"),
        (["--precision", "8"], "no precision named '8'"),
        (["--device", "gpu7"], "no device 'gpu7'"),
        (
            ["--host", "no.such.host.invalid", "--token", "auto"],
            "cannot listen on no.such.host.invalid",
        ),
        (["--host", "0.0.0.0"], "so it needs --token"),
        (["--host", "example.org"], "so it needs --token"),
        (["--token", "short"], "the token is too short"),
        (["--token", "of 16 letters and more"], "the token is too short"),
    ],
)
def test_a_wrong_option_is_a_sentence(checkpoint, options, words):
    from lightning_seg.serve import main

    with pytest.raises(InputError, match=words):
        main(["--ckpt_path", str(checkpoint), "--port", "0", *options])


def test_a_network_of_slices_is_refused(tmp_path):
    from lightning_seg.serve import main

    file = write_checkpoint(tmp_path / "ct.ckpt", dataset="lits", in_channels=5)
    with pytest.raises(InputError, match="takes 5 neighbouring slices of a scan"):
        main(["--ckpt_path", str(file), "--port", "0"])
