"""Requests that no browser sends: smuggled, malformed, compressed, or dressed as pictures; each gets one answer or none."""

import gzip
import io
import re
import zlib

import pytest

from tests.serve.test_connections import asked, checkpoint, picture, port, predictor  # noqa: F401

CONTENT = picture()
HEAD = b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
SMUGGLED = b"GET /api/model HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
BOUNDARY = b"Content-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'


def posted(content, *lines):
    length = b"Content-Length: %d\r\n" % len(content)
    return HEAD + length + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + content


def chunked(*chunks, head=b"Transfer-Encoding: chunked"):
    return HEAD + head + b"\r\n\r\n" + b"".join(chunks)


def chunk(content):
    return b"%x\r\n%s\r\n" % (len(content), content)


def form(body, *lines):
    return posted(body, BOUNDARY.rstrip(), *lines)


def got(path, *lines, method=b"GET"):
    head = method + b" " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def png_with(kind, content):
    """The picture with a chunk of that kind behind its header."""
    part = kind + content
    made = len(content).to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big")
    return CONTENT[:33] + made + CONTENT[33:]


LAUGHS = b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><svg>&c;</svg>'
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>1</script></svg>'

# request -> the statuses that it may get; None: the connection may also be closed without a word
REFUSED = {
    # two ideas of where a request ends
    "two lengths": (
        HEAD + b"Content-Length: 4\r\nContent-Length: 80\r\n\r\nabcd" + SMUGGLED,
        {400},
    ),
    "length and chunks": (
        chunked(b"0\r\n\r\n", SMUGGLED, head=b"Content-Length: 4\r\nTransfer-Encoding: chunked"),
        {400},
    ),
    "chunks of another name": (
        chunked(b"0\r\n\r\n", head=b"Transfer-Encoding: xchunked"),
        {400, 501},
    ),
    "chunks twice": (
        chunked(b"0\r\n\r\n", SMUGGLED, head=b"Transfer-Encoding: chunked, chunked"),
        {400, 501},
    ),
    "chunks behind a tab": (
        chunked(b"0\r\n\r\n", head=b"Transfer-Encoding:\x0bchunked"),
        {400, 501},
    ),
    "length with a sign": (HEAD + b"Content-Length: +4\r\n\r\nabcd", {400}),
    "length below 0": (HEAD + b"Content-Length: -4\r\n\r\nabcd", {400}),
    "length in hex": (HEAD + b"Content-Length: 0x4\r\n\r\nabcd", {400}),
    "length of 5,000 digits": (
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabcd",
        {400, 413},
    ),
    "length of other digits": (HEAD + "Content-Length: ٤\r\n\r\nabcd".encode(), {400}),
    "space before the colon": (HEAD + b"Content-Length : 4\r\n\r\nabcd", {400}),
    "chunk size below 0": (chunked(b"-1\r\nabc\r\n0\r\n\r\n"), {400}),
    "chunk size of 30 digits": (chunked(b"f" * 30 + b"\r\nabc\r\n"), {400, 413}),
    "chunk without an end": (chunked(b"3\r\nabcX\r\n0\r\n\r\n"), {400}),
    "chunk of 1 MB of extension": (chunked(b"3;" + b"a" * 10**6 + b"\r\nabc\r\n0\r\n\r\n"), {400}),
    "trailer of 1 MB": (chunked(chunk(b"abc"), b"0\r\nX: ", b"a" * 10**6, b"\r\n\r\n"), {400, 415}),
    # lines that are none
    "a null in a header": (got(b"/health", b"X: a\0b"), {400}),
    "a bare line feed": (got(b"/health", b"X: a\nEvil: b"), {400, 200}),
    "a folded header": (got(b"/health", b"X: a", b" b"), {400, 200}),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", {400, 403}),
    "two hosts": (got(b"/health", b"Host: evil.example"), {400, 403}),
    "a host with a user": (
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1@evil.example\r\n\r\n",
        {400, 403},
    ),
    "another address in the line": (got(b"http://evil.example/health"), {200, 400, 403, 404}),
    "HTTP/0.9": (b"GET /health\r\n\r\n", {400}),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 403, 404, 405, 505}),
    "HTTP/9.9": (b"GET /health HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n", {200, 400, 505}),
    "a path of 200 kB": (got(b"/" + b"a" * 200_000), {400, 404, 414}),
    "10,000 headers": (
        got(b"/health", *(b"X%d: a" % number for number in range(10_000))),
        {200, 400, 431},
    ),
    # paths
    "up": (got(b"/../../etc/passwd"), {404}),
    "up, written out": (got(b"/%2e%2e/%2e%2e/etc/passwd"), {404}),
    "a null in the path": (got(b"/page.js%00.html"), {404}),
    "no UTF-8 in the path": (got(b"/\xff\xfe"), {400, 404}),
    "half a percent": (got(b"/api/model%2"), {404}),
    "two slashes": (got(b"//evil.example/api/model"), {404}),
    "a web socket": (
        got(b"/api/predict", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
        {405},
    ),
    "TLS": (bytes.fromhex("16030100c8010000c40303") + bytes(190), {400}),
    "another method by a header": (got(b"/api/predict", b"X-HTTP-Method-Override: POST"), {405}),
    "CONNECT": (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400, 404, 405}),
    "TRACE": (got(b"/health", method=b"TRACE"), {405}),
    "a method of its own": (got(b"/api/predict", method=b"JEFF"), {405}),
    # queries
    "a class of script": (
        posted(CONTENT, b"Accept: image/png").replace(
            b"/api/predict", b"/api/predict?class=<script>"
        ),
        {400},
    ),
    "a part of script": (
        posted(CONTENT).replace(b"/api/predict", b"/api/predict?include=<svg/onload=1>"),
        {400},
    ),
    # forms
    "no boundary": (posted(PART, b"Content-Type: multipart/form-data"), {400}),
    "a boundary of 60 kB": (
        posted(b"a", b"Content-Type: multipart/form-data; boundary=" + b"b" * 60_000),
        {400},
    ),
    "a form within a form": (
        form(
            PART.replace(b"\r\n\r\n", b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n")
            + PART
        ),
        {400, 415},
    ),
    "no end": (form(PART + CONTENT), {200, 400, 415}),
    "1,000 fields": (
        form(b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n' * 1000 + b"--b--\r\n"),
        {400},
    ),
    "a field of 150 kB": (
        form(PART.replace(b'; filename="a.png"', b"") + b"a" * 150_000 + b"\r\n--b--\r\n"),
        {400},
    ),
    "a part's header of 100 kB": (
        form(PART.replace(b"a.png", b"a" * 100_000) + CONTENT + b"\r\n--b--\r\n"),
        {200, 400, 413},
    ),
    "100,000 parts of nothing": (form(b"--b\r\n\r\n\r\n" * 100_000 + b"--b--\r\n"), {400, 413}),
    "20 files": (form((PART + CONTENT + b"\r\n") * 20 + b"--b--\r\n"), {400}),
    "2 MB of line ends": (form(b"\r\n" * 1_000_000), {400, 413}),
    "50,000 headers of a part": (form(b"--b\r\n" + b"X: a\r\n" * 50_000), {400, 413}),
    "letters of no alphabet": (
        posted(
            PART.replace(b'; filename="a.png"', b"") + b"\xff\r\n--b--\r\n",
            BOUNDARY.rstrip() + b"; charset=bogus",
        ),
        {400},
    ),
    "a name in UTF-7": (
        form(
            PART.replace(b'filename="a.png"', b"filename*=utf-7''+ADw-script+AD4-")
            + b"a\r\n--b--\r\n"
        ),
        {400, 415},
    ),
    # what is no picture
    "SVG": (posted(SVG), {415}),
    "SVG as PNG": (form(PART + SVG + b"\r\n--b--\r\n"), {415}),
    "entities": (posted(LAUGHS), {415}),
    "HTML": (posted(b"<html><script>alert(1)</script>", b"Content-Type: text/html"), {415}),
    "PostScript": (
        posted(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file"),
        {415},
    ),
    "PDF": (posted(b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript>>>>"), {415}),
    "packed twice": (posted(gzip.compress(bytes(10**7)), b"Content-Encoding: gzip"), {400, 415}),
    "a bomb in its text": (
        posted(png_with(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
        {400, 413},
    ),
    "a bomb in its profile": (
        posted(png_with(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8)))),
        {400, 413},
    ),
    "an animation of 0 pictures": (posted(png_with(b"acTL", bytes(8))), {200, 400}),
    "an archive of numbers": (posted(b"PK\3\4" + bytes(100)), {415}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_malformed_gets_one_answer(port, name):  # noqa: F811
    request, statuses = REFUSED[name]
    try:
        answer = asked(port, request)
    except ConnectionResetError:  # it was closed with bytes on their way
        answer = b""
    found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", answer)]
    assert set(found[:1]) <= statuses, answer[:500]
    assert 200 not in found[1:], "a second request was read out of the first one's content"
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"<script" not in body.lower() or b"text/html" not in head.lower()
    assert b"Traceback" not in answer
    assert b'{"status":"ok"}' in asked(port, got(b"/health"))


TAKEN = {
    "chunks": chunked(chunk(CONTENT[:50]), chunk(CONTENT[50:]), b"0\r\n\r\n"),
    "chunks with extensions": chunked(
        b"%x;name=value\r\n%s\r\n" % (len(CONTENT), CONTENT), b"0\r\nX: a\r\n\r\n"
    ),
    "a byte a chunk": chunked(*(chunk(bytes([one])) for one in CONTENT), b"0\r\n\r\n"),
    "asked whether to go on": posted(CONTENT, b"Expect: 100-continue"),
    "a name with ways up": form(
        PART.replace(b"a.png", b"../../../etc/cron.d/a") + CONTENT + b"\r\n--b--\r\n"
    ),
    "a form in capitals": posted(
        PART + CONTENT + b"\r\n--b--\r\n", b"Content-Type: Multipart/FORM-data; boundary=b"
    ),
    "two kinds of content": posted(CONTENT, b"Content-Type: image/png", BOUNDARY.rstrip()),
    "3,000 wishes": posted(CONTENT).replace(
        b"/api/predict", b"/api/predict?" + b"include=probability&" * 3000
    ),
    "a quality that is no number": posted(CONTENT, b"Accept: image/png;q=nan, */*;q=1e999"),
    "an archive behind the picture": posted(CONTENT + b"PK\5\6" + bytes(18)),
    "HTML behind the picture": posted(CONTENT + b"<html><script>alert(1)</script>"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_odd_but_a_picture_is_predicted(port, name):  # noqa: F811
    answer = asked(port, TAKEN[name])
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer)[-1] == b"200", answer[:300]
    assert b"<script" not in answer


@pytest.mark.parametrize(
    "wanted", [b"bytes=0-0", b"bytes=-1", b"bytes=5-2", b"bytes=" + b"0-," * 3000, b"lines=1"]
)
@pytest.mark.parametrize("path", [b"/", b"/page.js", b"/api/model"])
def test_a_part_of_an_answer_is_not_to_be_had(port, path, wanted):  # noqa: F811
    """A list of overlapping ranges would make one answer a thousand times as long."""
    answer = asked(port, got(path, b"Range: " + wanted))
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(answer) < 200_000


def test_the_picture_that_is_attacked_with_is_one():
    assert io.BytesIO(CONTENT).read(4) == b"\x89PNG"
    assert png_with(b"tEXt", b"a\0b").startswith(CONTENT[:33])
