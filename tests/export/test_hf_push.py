"""``lightning-seg push``: what is sent where, and what is refused."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from lightning_seg.__main__ import main
from lightning_seg.errors import InputError
from lightning_seg.export.push import push


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What an export for jane/polyps looks like."""
    place = tmp_path / "out"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"model_type": "lightning_seg"}))
    (place / "README.md").write_text(
        'model = AutoModel.from_pretrained("jane/polyps", trust_remote_code=True)\n'
    )
    return place


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a server that knows no token."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The hub may be asked; no token is known."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    return monkeypatch


def test_the_folder_goes_to_the_repository_as_one_commit(
    folder: Path, online: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, Any]] = []

    class Api:
        endpoint = "https://hub"

        def __init__(self, token: str) -> None:
            calls.append(("token", token))

        def create_repo(self, repo_id: str, **given: Any) -> None:
            calls.append((repo_id, given["private"]))

        def upload_folder(self, **given: Any) -> Any:
            calls.append((given["repo_id"], given["folder_path"]))
            files = [".eval_results/kvasir.yaml", "__pycache__/network.pyc"]
            sent = filter_repo_objects(files, ignore_patterns=given["ignore_patterns"])
            calls.append(("sent", list(sent)))
            return SimpleNamespace(commit_url="https://hub/jane/polyps/commit/1")

    online.setattr("huggingface_hub.HfApi", Api)
    main(["push", str(folder), "--repo-id", "jane/polyps", "--private", "--token", "hf_x"])
    assert calls == [
        ("token", "hf_x"),
        ("jane/polyps", True),
        ("jane/polyps", folder),
        ("sent", [".eval_results/kvasir.yaml"]),
    ]
    assert "uploaded:  https://hub/jane/polyps/commit/1" in capsys.readouterr().out


def test_without_a_token_it_says_where_one_is_given(
    folder: Path, online: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"no token for the Hub; give --token, set HF_TOKEN"):
        push(folder, "jane/polyps")


def test_a_token_that_the_hub_does_not_know_is_one_sentence(
    folder: Path, online: pytest.MonkeyPatch, refusing: str
) -> None:
    online.setattr(huggingface_hub.constants, "ENDPOINT", refusing)
    with pytest.raises(InputError, match=rf"{refusing} refused the upload to 'jane/polyps': .*401"):
        push(folder, "jane/polyps", token="hf_wrong")


def test_a_hub_out_of_reach_is_one_sentence(folder: Path, online: pytest.MonkeyPatch) -> None:
    online.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"http://127.0.0.1:9 cannot be reached"):
        push(folder, "jane/polyps", token="hf_x")


def test_offline_mode_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="cannot be reached"):
        push(folder, "jane/polyps", token="hf_x")


@pytest.mark.parametrize(
    ("repo_id", "words"),
    [
        ("polyps", "give user/name"),
        ("../..", "give user/name"),
        ("jane/other", "tells people to load 'jane/polyps', not 'jane/other'"),
    ],
)
def test_a_repository_that_is_not_the_cards_is_refused(
    folder: Path, repo_id: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        push(folder, repo_id, token="hf_x")


def test_a_folder_that_holds_more_than_an_export_is_refused(folder: Path) -> None:
    (folder / "patients.csv").write_text("private")
    with pytest.raises(InputError, match="is not a folder that `lightning-seg export hf` wrote"):
        push(folder, "jane/polyps", token="hf_x")
