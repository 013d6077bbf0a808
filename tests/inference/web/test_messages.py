"""Messages of the live protocol; what is fuzzed here stands for what anybody may send."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("starlette", reason="pip install -c constraints.txt -r requirements-serve.txt")

from inference.web.messages import HEADER, JPEG, Control, LiveOptions, Unreadable, header, read_control, read_sound
from modules.system.config import from_dict
from modules.system.errors import UserError

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "frames"]) | st.text(), inner),
)


@given(st.text() | ANY_JSON.map(json.dumps))
def test_any_text_is_a_control_or_is_refused_in_a_line(text):
    try:
        control = read_control(text)
    except Unreadable as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert control.kind in ("finish", "interrupt", "idle", "end") and 0 <= control.frames <= 1500


@given(st.binary(max_size=64), st.sampled_from(["int16", "float32"]), st.sampled_from([1, 2]))
def test_any_bytes_are_sound_or_are_refused_in_a_line(data, samples, channels):
    try:
        sound = read_sound(data, LiveOptions(samples=samples, channels=channels))
    except Unreadable as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert sound.dtype == np.float32 and len(sound) == len(data) // {"int16": 2, "float32": 4}[samples] // channels
        assert np.isfinite(sound).all() and (np.abs(sound) <= 1).all()


@given(st.dictionaries(st.sampled_from(["rate", "frames", "seed", "look_ahead", "background"]) | st.text(), ANY_JSON))
def test_any_options_are_a_session_s_or_are_refused(values):
    try:
        options = from_dict(LiveOptions, values)
    except UserError as error:
        assert str(error)
    else:
        assert 8000 <= options.rate <= 192_000 and options.look_ahead <= 10


def test_controls_and_sound_are_read():
    assert read_control('{"type": "idle", "frames": 50}') == Control("idle", 50)
    assert read_control('{"type": "end", "frames": "x"}') == Control("end")
    stereo = np.array([[16384, 0], [-32768, -32768]], "<i2").tobytes()
    assert read_sound(stereo, LiveOptions(channels=2)).tolist() == [0.25, -1.0]
    assert read_sound(np.float32([3, -0.5]).tobytes(), LiveOptions(samples="float32")).tolist() == [1.0, -0.5]


def test_a_header_says_kind_number_and_time():
    assert HEADER.size == 16 and HEADER.unpack(header(JPEG, 50)) == (b"JPEG", 50, 2.0)


@pytest.mark.parametrize("wrong", [{"rate": 7999}, {"background": "x.png"}, {"look_ahead": -1}, {"pose": "wild"}])
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        from_dict(LiveOptions, wrong)
