"""A server that makes talking portraits: REST for videos, WebSockets for live sessions, and the page of inference.app.

python -m inference.serve                                     # for this computer: http://localhost:8000
REAL3D_TOKEN=... python -m inference.serve --host 0.0.0.0     # for others, who must bring the token
"""

import argparse
import os
import secrets
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from inference.options import RENDERERS, RIG_SIZES
from inference.signing import add_signing, check_signing, seal_of
from modules.media.endings import VIDEO
from modules.rig.config import draws_by_rig
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.errors import UserError, run_command
from modules.system.imports import many_imports
from modules.system.packages import check_package

if TYPE_CHECKING:  # importing them takes seconds: a wrong option is answered before
    import uvicorn
    from starlette.applications import Starlette

    from inference.web.config import ServerLimits

SERVE_REQUIREMENTS = "requirements-serve.txt"
TOKEN = "REAL3D_TOKEN"  # noqa: S105 (the name of a variable)
PORT = 8000
_SHORTEST_TOKEN = 16
_LOOPBACK = "127.0.0.1"
_GRACE = 10  # seconds that answers may take when the server stops


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """The options of the server, for the command of that name."""
    result = argparse.ArgumentParser(
        prog=f"python -m {name}", description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    result.add_argument(
        "--host",
        help=f"address to listen at; without it this computer alone. With it requests must bring the token that the "
        f"environment variable {TOKEN} holds, or else one that is made and printed",
    )
    result.add_argument("--port", type=int, default=PORT, help="0: any that is free")
    result.add_argument("--checkpoint", type=Path, default=DEMO_CHECKPOINT, help="which weights")
    result.add_argument("--renderer", choices=RENDERERS, help="who draws; without it as inference.run chooses")
    result.add_argument("--size", type=int, choices=RIG_SIZES, help="pixels a side of --renderer rig; 512 if not given")
    result.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    result.add_argument("--threads", type=int, default=1, help="CPU threads for live sessions, and as many for videos")
    result.add_argument("--keep", type=Path, metavar="FOLDER", help="also leave finished videos there")
    add_signing(result)
    return result


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be done, before anything is loaded.

    Raises:
        UserError: naming the option, or the package that is missing.
    """
    for package in ("starlette", "uvicorn", "websockets", "prometheus_client"):
        check_package(package, "the server", "use python -m inference.run", SERVE_REQUIREMENTS)
    if not 0 <= options.port <= 65535:
        raise UserError(f"--port is {options.port}; give a number from 0 to 65535")
    if options.threads < 1:
        raise UserError(f"--threads is {options.threads}; give at least 1")
    if not options.checkpoint.is_dir():
        raise UserError(f"--checkpoint {options.checkpoint}: there is no such folder")
    if options.renderer is None:
        options.renderer = "rig" if draws_by_rig(options.checkpoint) else "planes"
    if options.size is not None and options.renderer != "rig":
        raise UserError("--size is not used here; the planes have the size of the checkpoint's networks; leave it out")
    if options.keep is not None and not options.keep.is_dir():
        raise UserError(f"--keep {options.keep}: there is no such folder; make it first")
    check_signing(options, Path(f"talk{VIDEO}"))


def token_of(options: argparse.Namespace) -> str | None:
    """What requests must bring: nothing on this computer alone, unless the variable asks for it.

    Raises:
        UserError: the variable's token is too short.
    """
    given = os.environ.get(TOKEN)
    if given is not None and (len(given) < _SHORTEST_TOKEN or not given.isascii() or not given.isprintable()):
        raise UserError(f"{TOKEN} must be at least {_SHORTEST_TOKEN} letters and digits; make it longer")
    if given is None and options.host is not None:
        return secrets.token_urlsafe()
    return given


def listen(options: argparse.Namespace) -> socket.socket:
    """A socket at the address of the options.

    Raises:
        UserError: the port is taken, or there is no such address.
    """
    host = options.host or _LOOPBACK
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, options.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise UserError(
            f"cannot listen at {host}, port {options.port} ({error.strerror or error}); choose another with --port"
        ) from error
    return listener


def address_of(options: argparse.Namespace, listener: socket.socket, token: str | None) -> str:
    """What a browser opens."""
    name = "localhost" if options.host is None else options.host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{listener.getsockname()[1]}/" + ("" if token is None else f"?token={token}")


def uvicorn_config(app: "Starlette", limits: "ServerLimits") -> "uvicorn.Config":
    """How uvicorn serves the application: its own limits, and nothing of a request in a log."""
    import uvicorn

    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=limits.message_bytes,
        ws_per_message_deflate=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=_GRACE,
        server_header=False,
        proxy_headers=False,
    )


def serve(options: argparse.Namespace, opened: Callable[[str], None]) -> None:
    """Load the checkpoint, listen, and answer until a signal comes.

    Args:
        opened: told of the address once the server listens.
    Raises:
        UserError: an option cannot be used.
    """
    check(options)
    seal = seal_of(options)
    token, listener = token_of(options), listen(options)
    with many_imports():
        import uvicorn

        from inference.pipeline import TalkingPortrait
        from inference.web.api import make_app
        from inference.web.config import ServerLimits
        from inference.web.studio import Studio

    limits = ServerLimits()
    talker = TalkingPortrait.load(options.checkpoint, options.device)
    if options.renderer == "planes":
        talker.with_networks()
    studio = Studio(talker, options.renderer, limits, options.size, seal)
    app = make_app(studio, limits, token, options.threads, options.keep)
    config = uvicorn_config(app, limits)
    address = address_of(options, listener, token)

    class Listening(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not self.should_exit:
                opened(address)

    Listening(config).run(sockets=[listener])


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a user's error, 130 after Ctrl-C, 143 after SIGTERM."""

    def body() -> None:
        options = parser("inference.serve", __doc__.splitlines()[0]).parse_args(arguments)
        serve(options, lambda address: print(f"listening at {address}", flush=True))

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
