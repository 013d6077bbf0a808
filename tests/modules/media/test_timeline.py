from collections.abc import Iterable
from fractions import Fraction
from types import SimpleNamespace

import pytest

from modules.media.timeline import AHEAD, FAR_AHEAD, PATIENCE, Timeline

PICTURES, SOUND = 0, 1
BASE = Fraction(1, 90_000)


def packet(track: int, time: float, dts: bool = True) -> SimpleNamespace:
    ticks = round(time / BASE)
    length = round((0.04 if track == PICTURES else 0.02) / BASE)
    return SimpleNamespace(
        stream=SimpleNamespace(index=track), pts=ticks, dts=ticks if dts else None, duration=length, time_base=BASE
    )


def recording(seconds: float, start: float = 0.0, sound_from: float = 0.0) -> list[SimpleNamespace]:
    """Packets of 25 pictures and 50 pieces of sound a second, interleaved."""
    pictures = [packet(PICTURES, start + 0.04 * k) for k in range(round(seconds * 25))]
    sound = [packet(SOUND, start + sound_from + 0.02 * k) for k in range(round((seconds - sound_from) * 50))]
    return sorted(pictures + sound, key=lambda p: (p.pts, p.stream.index))


def times(packets: Iterable, timeline: Timeline | None = None, tracks: tuple = (PICTURES, SOUND)) -> dict:
    """Seconds at which the packets of each track are placed."""
    timeline = timeline or Timeline(PICTURES if PICTURES in tracks else None, SOUND if SOUND in tracks else None)
    placed = [p for given in packets if given.stream.index in tracks for p in timeline.place(given)]
    placed += timeline.finish()
    return {track: [float(p.pts * BASE) for p in placed if p.stream.index == track] for track in tracks}


def regular(count: int, step: float, start: float = 0.0) -> pytest.approx:
    return pytest.approx([start + step * k for k in range(count)], abs=1e-3)


def test_a_plain_recording_keeps_its_times():
    found = times(recording(2.0, start=7.0, sound_from=0.5))
    assert found[PICTURES] == regular(50, 0.04, 7.0) and found[SOUND] == regular(75, 0.02, 7.5)


@pytest.mark.parametrize("start", [0.0, 5000.0, -3.0])
def test_recordings_that_were_joined_go_on_from_the_last_picture(start):
    packets = recording(1.2) + recording(1.2, start) + recording(1.2, start + 40_000)
    found = times(packets)
    assert found[PICTURES] == regular(90, 0.04) and found[SOUND] == regular(180, 0.02)


@pytest.mark.parametrize("first", [PICTURES, SOUND])
@pytest.mark.parametrize("longer", [0, 3, 20])
def test_both_tracks_are_moved_alike_whichever_jumps_first(first, longer):
    """The sound of the first part may be longer than its pictures; the two of the second stay together."""
    tail = [packet(SOUND, 1.2 + 0.02 * k) for k in range(longer)]
    # half a second of one track, then of the other
    second = sorted(recording(1.2), key=lambda p: (p.pts // 45_000, p.stream.index != first))
    found = times(recording(1.2) + tail + second)
    assert found[PICTURES] == regular(60, 0.04)
    assert found[SOUND][-60:] == regular(60, 0.02, 1.2)


def test_a_clock_that_runs_over_goes_on():
    wrapped = 2**33 * float(BASE)
    packets = recording(2.0, wrapped - 1.0)
    for p in packets:
        p.pts, p.dts = p.pts % 2**33, p.dts % 2**33
    found = times(packets)
    assert found[PICTURES] == regular(50, 0.04, wrapped - 1.0) and found[SOUND] == regular(100, 0.02, wrapped - 1.0)


@pytest.mark.parametrize("tracks", [(PICTURES, SOUND), (SOUND,)])
def test_a_gap_is_a_gap(tracks):
    packets = [p for p in recording(4.0) if p.stream.index == PICTURES or not 0.999 < p.pts * BASE < 3]
    sound = times(packets, tracks=tracks)[SOUND]
    assert sound == pytest.approx([0.02 * k for k in (*range(50), *range(150, 200))], abs=1e-3)


def test_sound_may_be_mute_for_longer_than_a_jump_while_the_pictures_go_on():
    packets = [p for p in recording(AHEAD + 4) if p.stream.index == PICTURES or not 1 < p.pts * BASE < AHEAD + 3]
    found = times(packets, Timeline(PICTURES, SOUND, AHEAD))
    assert found[SOUND][-1] == pytest.approx(AHEAD + 3.98, abs=1e-3)


@pytest.mark.parametrize("ahead", [AHEAD, FAR_AHEAD])
def test_times_that_no_track_covers_are_a_jump(ahead):
    packets = recording(1.0) + recording(1.0, start=2.0 + ahead)
    assert times(packets, Timeline(PICTURES, SOUND, ahead))[PICTURES] == regular(50, 0.04)
    packets = recording(1.0) + recording(1.0, start=0.9 + ahead)
    assert times(packets, Timeline(PICTURES, SOUND, ahead))[PICTURES][25] == pytest.approx(0.9 + ahead, abs=1e-3)


@pytest.mark.parametrize("track", [PICTURES, SOUND])
@pytest.mark.parametrize("time", [4000.0, 0.0])
def test_one_stray_time_moves_nothing_else(track, time):
    packets = recording(2.0)
    stray = [p for p in packets if p.stream.index == track][15]
    stray.pts = stray.dts = round(time / BASE)
    found = times(packets)
    assert found[PICTURES] == regular(50, 0.04) and found[SOUND] == regular(100, 0.02)


def test_sound_that_overlaps_keeps_its_times_and_a_clock_that_was_set_goes_on():
    sound = [packet(SOUND, 0.02 * k) for k in range(50)]
    overlapping = [packet(SOUND, 0.7 + 0.02 * k) for k in range(50)]
    assert times(sound + overlapping, tracks=(SOUND,))[SOUND][50:] == regular(50, 0.02, 0.7)
    set_back = [packet(SOUND, 0.02 * k) for k in range(50)]
    assert times([*recording(9.0), *set_back])[SOUND] == regular(500, 0.02)  # of the sound alone


def test_sound_waits_for_the_pictures_no_longer_than_its_patience():
    timeline = Timeline(PICTURES, SOUND)
    for p in recording(5.0):
        list(timeline.place(p))
    given = [len(list(timeline.place(packet(SOUND, 0.02 * k)))) for k in range(PATIENCE + 5)]
    assert given[:PATIENCE] == [0] * PATIENCE and given[PATIENCE:] == [PATIENCE + 1, 1, 1, 1, 1]


def test_packets_without_times_pass():
    bare = packet(SOUND, 0.0)
    bare.pts = bare.dts = None
    assert list(Timeline(None, SOUND).place(bare)) == [bare] and bare.pts is None
