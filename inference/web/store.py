"""The files that the server holds: uploads and results, in one folder that is deleted at its end."""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

from inference.web.refusals import Refusal


class Store:
    """A temporary folder, as private as the user's umask and `tempfile` make it.

    Attributes:
        held: bytes in it, of uploads and of what `count` was told of.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: bytes that it may hold."""
        self.held, self._limit = 0, limit
        self._sizes: dict[Path, int] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="real3d-"))

    def new_path(self, suffix: str = "") -> Path:
        """A name that is not taken; nothing is written."""
        return self._folder / f"{secrets.token_hex(8)}{suffix}"

    async def receive(self, pieces: AsyncIterator[bytes], limit: int, seconds: float, stated: int | None) -> Path:
        """Write an upload to a file as it comes.

        What is too large is read to its end, if that is near, so that the sender hears of it.

        Args:
            limit: bytes.
            seconds: that it may take.
            stated: its length as the sender states it, or None.
        Raises:
            Refusal: it is empty, too large or too slow, or the folder is full; nothing of it is left.
        """
        too_large = Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the upload is too large; send at most {limit / 1e6:g} MB"
        )
        if stated is not None and stated > 4 * limit:
            raise too_large
        path, length = self.new_path(), 0
        try:
            async with asyncio.timeout(seconds):
                with path.open("xb") as file:
                    async for piece in pieces:
                        length += len(piece)
                        if length > 4 * limit:
                            raise too_large
                        if length <= limit:
                            self._hold(path, length)
                            file.write(piece)
        except TimeoutError as error:
            self.remove(path)
            raise Refusal(
                HTTPStatus.REQUEST_TIMEOUT, f"the upload took longer than {seconds:g} seconds; send something smaller"
            ) from error
        except BaseException:  # the sender left
            self.remove(path)
            raise
        if length > limit or length == 0:
            self.remove(path)
            raise (
                too_large
                if length
                else Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "the upload is empty; send the file itself as the body")
            )
        return path

    def count(self, path: Path) -> Path:
        """Let a file that was written here count, with its size of now."""
        self._hold(path, path.stat().st_size)
        return path

    def copy(self, path: Path) -> Path:
        """A second name for a file, so that removing the first does not take it from who is reading it."""
        other = self.new_path(path.suffix)
        try:
            other.hardlink_to(path)
        except OSError:  # a disk without links
            shutil.copyfile(path, other)
        return other

    def remove(self, path: Path) -> None:
        """Delete a file of this folder, if it is there."""
        self.held -= self._sizes.pop(path, 0)
        path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete the folder with all that is in it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _hold(self, path: Path, size: int) -> None:
        more = size - self._sizes.get(path, 0)
        if self.held + more > self._limit:
            raise Refusal(
                HTTPStatus.INSUFFICIENT_STORAGE,
                "the server holds as many files as it may; delete some, or try again later",
                60,
            )
        self.held += more
        self._sizes[path] = size
