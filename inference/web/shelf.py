"""Things that the server holds for its users, by names that nobody can guess, until they are unused for a while."""

import secrets
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Generic, TypeVar

from inference.web.refusals import Refusal

Thing = TypeVar("Thing")
_NAME_BYTES = 16


class Shelf(Generic[Thing]):
    """Things by name; what is taken off is given to `put_away` once."""

    def __init__(
        self,
        kind: str,
        most: int,
        idle_seconds: float,
        put_away: Callable[[Thing], None] = lambda thing: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`kind`: what one thing is called in messages."""
        self._kind, self._most, self._idle = kind, most, idle_seconds
        self._put_away, self._clock = put_away, clock
        self._things: dict[str, tuple[Thing, float]] = {}

    def __len__(self) -> int:
        return len(self._things)

    def __iter__(self) -> Iterator[Thing]:
        return iter([thing for thing, _ in self._things.values()])

    def admit(self) -> None:
        """Raises: Refusal: the shelf is full, and nothing on it has been idle for long."""
        self.sweep()
        if len(self._things) >= self._most:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the server holds {len(self)} {self._kind}s, its most; delete one, or try again later",
                10,
            )

    def add(self, thing: Thing) -> str:
        """Its name.

        Raises:
            Refusal: as of `admit`; the thing is put away.
        """
        try:
            self.admit()
        except Refusal:
            self._put_away(thing)
            raise
        name = secrets.token_urlsafe(_NAME_BYTES)
        self._things[name] = thing, self._clock()
        return name

    def get(self, name: str) -> Thing:
        """The thing of a name; it counts as used.

        Raises:
            Refusal: there is none.
        """
        if name not in self._things:
            raise Refusal(
                HTTPStatus.NOT_FOUND, f"there is no such {self._kind}; it may have been deleted, or unused for too long"
            )
        thing, _ = self._things[name]
        self._things[name] = thing, self._clock()
        return thing

    def drop(self, name: str) -> None:
        """Put the thing of a name away; Refusal as of `get`."""
        self.get(name)
        thing, _ = self._things.pop(name)
        self._put_away(thing)

    def sweep(self) -> None:
        """Put away what has been idle for too long."""
        now = self._clock()
        for name in [name for name, (_, used) in self._things.items() if now - used > self._idle]:
            self.drop(name)

    def clear(self) -> None:
        """Put everything away."""
        for name in list(self._things):
            self.drop(name)
