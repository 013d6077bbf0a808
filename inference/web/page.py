"""The page: three files of this folder that a browser shows, without a script from anywhere else."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from inference.web.guard import COOKIE, link_tokens

_FOLDER = Path(__file__).parent / "page"
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


async def _index(request: Request) -> Response:
    if link_tokens(request.scope):  # it was looked at before; from here on a cookie brings it
        answer: Response = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(
            COOKIE, link_tokens(request.scope)[0], httponly=True, samesite="strict", secure=secure, path="/"
        )
        return answer
    return _file("index.html")


def _file(name: str) -> Response:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return FileResponse(_FOLDER / name, headers=headers, media_type=f"{_KINDS[Path(name).suffix]}; charset=utf-8")


def page_routes() -> list[BaseRoute]:
    """A route for each file, by names that are fixed when the server starts."""

    def route(name: str) -> Route:
        async def give(request: Request) -> Response:
            return _file(name)

        return Route(f"/page/{name}", give)

    names = sorted(path.name for path in _FOLDER.iterdir() if path.suffix in _KINDS)
    return [Route("/", _index), *(route(name) for name in names)]
