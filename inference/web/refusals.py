"""What the server refuses: a status of HTTP and one line that says what is wrong and what to do."""

import errno
import re
import sys
import traceback
from http import HTTPStatus
from pathlib import Path

from starlette.responses import JSONResponse

from modules.system.errors import DISK_FULL, UserError, lack_of_memory

_FULL = (*DISK_FULL, errno.EMFILE, errno.ENFILE)
_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


class Refusal(Exception):
    """An answer other than the one that was asked for.

    Attributes:
        status: of HTTP.
        retry: seconds after which it may be worth to ask again, or None.
    """

    def __init__(self, status: int, message: str, retry: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry = status, retry

    def again(self) -> "Refusal":
        """The same, to be raised or kept, without what this one holds: where it came from."""
        return Refusal(self.status, str(self), self.retry)

    def response(self) -> JSONResponse:
        """{"error": the line}"""
        headers = {} if self.retry is None else {"Retry-After": str(self.retry)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"error": str(self)}, self.status, headers)


def refusal_of(error: Exception) -> Refusal:
    """What to answer after any error; one that is the server's own is told of on stderr."""
    if isinstance(error, Refusal):
        return error
    full = next((cause for cause in _causes(error) if isinstance(cause, OSError) and cause.errno in _FULL), None)
    if full is not None:  # the line of a command would name folders of the server
        return Refusal(
            HTTPStatus.INSUFFICIENT_STORAGE, f"the server cannot store this ({full.strerror}); try again later", 60
        )
    if isinstance(error, UserError):
        return Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY, _OPTION.sub(lambda found: found[1].replace("-", "_"), str(error))
        )
    if lack_of_memory(error):
        return Refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the server has too little memory for this; try again later, or use something smaller",
            60,
        )
    traceback.print_exception(error, file=sys.stderr)
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong in the server; its log says what")


def renamed(error: UserError, path: Path, called: str) -> UserError:
    """The same error where a file of the server is called what it is to the user."""
    return UserError(str(error).replace(str(path), called).replace(path.name, called))


def _causes(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__
    return found
