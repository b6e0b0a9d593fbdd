"""``python -m hpo serve``: a gRPC server before a storage, so that many workers share its one
connection."""

from pathlib import Path

import optuna

from hpo.storage import open_storage, resolve, shown
from lightning_seg.options import OptionParser


def main(args: list[str]) -> None:
    """Serve until killed; workers then take ``--storage grpc://host:port``."""
    parser = OptionParser(prog="python -m hpo serve", description=__doc__)
    parser.add_argument(
        "--storage", required=True, help="postgresql://, sqlite:/// or a journal file"
    )
    parser.add_argument(
        "--host", default="localhost", help="0.0.0.0: for other machines too; there is no password"
    )
    parser.add_argument("--port", type=int, default=13000)
    options = parser.parse_args(args)
    storage = open_storage(resolve(options.storage, Path("runs"), ""), create=True)
    print(f"serving {shown(options.storage)} as grpc://{options.host}:{options.port}", flush=True)
    optuna.storages.run_grpc_proxy_server(storage, host=options.host, port=options.port)
