"""``lightning-seg push``: upload a folder that `export hf` wrote to the Hugging Face Hub, or to
where $HF_ENDPOINT points."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from lightning_seg.errors import InputError
from lightning_seg.export.hf import check_repo_id, is_export
from lightning_seg.options import OptionParser


def main(args: Sequence[str]) -> None:
    """``lightning-seg push``; see ``lightning-seg push --help``."""
    parser = OptionParser(
        prog="lightning-seg push",
        description="Upload a folder that `export hf` wrote to the Hugging Face Hub.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--repo-id", required=True, metavar="USER/NAME", help="is made where there is none"
    )
    parser.add_argument(
        "--private", action="store_true", help="where it is made: for yourself alone"
    )
    parser.add_argument(
        "--token",
        help="default: $HF_TOKEN, or that of `hf auth login`, which no other user can see",
    )
    options = parser.parse_args(args)
    print(f"uploaded:  {push(options.folder, options.repo_id, options.private, options.token)}")


def push(
    folder: Path,
    repo_id: str,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Upload the folder as one commit and return where it is.

    Args:
        folder: one that `export_hf` wrote.
        repo_id: ``user/name``; the one that the folder's card speaks of.
        private: whether a new repository is private; one that exists stays as it is.
        token: default: that of the environment or of ``hf auth login``.

    Errors: InputError for another folder, another repository than the card's, no token, no
        network, a refusal.
    """
    _check_upload(folder, repo_id)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    token = token or get_token()
    if not token:
        raise InputError(
            "there is no token for the Hub; give --token, set HF_TOKEN, or run `hf auth login` "
            "(hf.co/settings/tokens)."
        )
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, repo_type="model", exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message="Upload from lightning_seg",
            ignore_patterns=["__pycache__/*"],
        )
    except HfHubHTTPError as error:
        raise InputError(
            f"{api.endpoint} refused the upload to {repo_id!r}: {_first_line(error)}"
        ) from error
    except (
        Exception
    ) as error:  # of the library's HTTP client, which is another one from version to version
        raise InputError(
            f"{api.endpoint} cannot be reached ({_first_line(error)}); check the network, or "
            "HF_ENDPOINT."
        ) from error
    return str(commit.commit_url)


def _check_upload(folder: Path, repo_id: str) -> None:
    """Refuse what can be refused before anything is sent."""
    check_repo_id(repo_id)
    if not folder.is_dir() or not is_export(folder):
        raise InputError(
            f"{folder} is not a folder that `lightning-seg export hf` wrote; export a checkpoint "
            "first."
        )
    card = folder / "README.md"
    named = re.search(
        r'from_pretrained\("([^"]*)"', card.read_text(encoding="utf-8") if card.is_file() else ""
    )
    if named and named[1] != repo_id:
        raise InputError(
            f"the card in {folder} tells people to load {named[1]!r}, not {repo_id!r}; export it "
            "again with "
            f"--repo-id {repo_id} --overwrite."
        )


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
