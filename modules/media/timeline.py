"""One continuous time for the packets of a file, so that its sound and pictures stay together.

The times in a file are believed: a gap is a gap. But a file that was joined from several, or whose clock ran over or
was set, has jumps in which no time passed. After a jump all tracks go on from the end of the last picture (of the last
sound where there are no pictures), moved by the same amount.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import av

CLOSE = 0.1  # seconds that a packet may be off the end of the one before and still be the next
OVERLAP = 1.0  # seconds that sound may go back and still be of the same recording
ORDINARY = 0.04  # seconds from one picture to the next
AHEAD = 10.0  # seconds that no track covers and that are a jump, where a format has jumps (MPEG-TS, Ogg)
FAR_AHEAD = 600.0  # the same for other formats
PATIENCE = 200  # packets of sound that wait for the pictures to jump as well: 4 s


@dataclass
class _Clock:
    """Where a track is. Times are seconds; `shift` is added to those of the file.

    Attributes:
        shift, before: of this packet, and until the last jump.
        start, end: of the last packet; None before the first.
        step: duration of the last packet, or time since the one before where it states none.
        first: the file's time of the first packet since the last jump.
        jump: number of the jump that gave `shift`.
        held: packets that wait, from a jump of the sound on.
    """

    shift: float = 0.0
    before: float = 0.0
    start: float | None = None
    end: float | None = None
    step: float = 0.0
    first: float = 0.0
    jump: int = 0
    held: deque[av.Packet] = field(default_factory=deque)

    def advance(self, time: float, duration: float) -> None:
        """Note a packet at `time` of the file."""
        start = time + self.shift
        since = 0.0 if self.start is None else start - self.start
        self.step = max(duration, min(since, ORDINARY)) or self.step  # some files state a tick
        self.start, self.end = start, start + self.step

    def move(self, shift: float, time: float, jump: int) -> None:
        """Change the shift with the packet at `time`."""
        self.jump = jump
        if shift != self.shift:
            self.shift, self.before, self.first = shift, self.shift, time


class Timeline:
    """Moves the times of packets, which must come in the order of the file.

    Args:
        pictures, sound: indices of the tracks; None where there is none.
        ahead: seconds after the end of all tracks that are a jump.
    """

    def __init__(self, pictures: int | None, sound: int | None, ahead: float = FAR_AHEAD) -> None:
        self._pictures, self._ahead, self._jumps = pictures, ahead, 0
        self._clocks = {index: _Clock() for index in (pictures, sound) if index is not None}

    def place(self, packet: av.Packet) -> Iterator[av.Packet]:
        """The packets whose time is known now: this one, none, or this one and those that waited for it."""
        clock = self._clocks[packet.stream.index]
        if clock.held or not self._admit(packet, clock, patient=packet.stream.index != self._pictures):
            clock.held.append(packet)
            if len(clock.held) > PATIENCE:
                yield from self._release(clock)
            return
        yield packet
        for other in self._clocks.values():
            if other.held and other.jump < clock.jump:
                yield from self._release(other)

    def finish(self) -> Iterator[av.Packet]:
        """The packets that still wait at the end of the file."""
        for clock in self._clocks.values():
            while clock.held:
                yield from self._release(clock)

    def _release(self, clock: _Clock) -> Iterator[av.Packet]:
        """Place what was held; it waits again from the next jump on."""
        held, clock.held, patient = clock.held, deque(), False
        while held:
            if not self._admit(held[0], clock, patient):
                clock.held = held
                return
            patient = True
            yield held.popleft()

    def _admit(self, packet: av.Packet, clock: _Clock, patient: bool) -> bool:
        """Move the packet to its time; False if it must wait for the pictures, which may be about to jump."""
        is_sound = packet.stream.index != self._pictures
        ticks = packet.dts if packet.dts is not None or not is_sound else packet.pts  # pictures are out of order by pts
        if ticks is None:
            _shift(packet, clock.shift)
            return True
        time = float(ticks * packet.time_base)
        if clock.end is None:
            clock.first = time
        elif not self._continues(time, clock):
            if patient and self._pictures is not None:
                return False
            self._go_on(time, clock)
        clock.advance(time, float((packet.duration or 0) * packet.time_base))
        _shift(packet, clock.shift)
        return True

    def _continues(self, time: float, clock: _Clock) -> bool:
        """Whether there is a shift under which a packet continues its track; it becomes the track's."""
        others = [other for other in self._clocks.values() if other is not clock]
        known = [(clock.shift, clock.jump), *((other.shift, other.jump) for other in others)]
        for shift, jump in (*known, (clock.before, clock.jump)):
            if abs(time + shift - clock.end) <= CLOSE:
                clock.move(shift, time, jump)
                return True
        latest = max(other.end for other in (clock, *others) if other.end is not None) + self._ahead
        if clock.end < time + clock.shift <= latest:  # a gap
            return True
        for other in others:  # the others have jumped already
            if other.jump > clock.jump and clock.end - OVERLAP < time + other.shift <= latest:
                clock.move(other.shift, time, other.jump)
                return True
        return False

    def _go_on(self, time: float, clock: _Clock) -> None:
        """After a jump go on from the end; but sound that goes back a little is of the same recording."""
        is_sound = clock is not self._clocks.get(self._pictures)
        if is_sound and -OVERLAP < time + clock.shift - clock.end < 0 and time > clock.first + CLOSE:
            return
        self._jumps += 1
        clock.move(clock.end - time, time, self._jumps)


def _shift(packet: av.Packet, seconds: float) -> None:
    if seconds:
        ticks = round(seconds / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
