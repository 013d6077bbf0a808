"""What scripts/fuzz.py feeds to the commands: valid files made by code, ways to break them, odd words and values."""

import io
import json
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random

import av
import numpy as np
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
# fmt: off
WORDS = ("", " ", "-", "--", "0", "-1", "nan", "inf", "1e400", "null", "~", "no", "2024", ".", "..", "/", "\x00",
         "\u00e9\u202e", "a" * 300, "[1080p]", "*", "%s", "{}", "[", "{a", "transparent", "#12", "#gggggg", "=", "/x")
PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
SOUNDS = (("wav", "pcm_s16le"), ("wav", "pcm_f32le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("mp4", "aac"),
          ("adts", "aac"), ("ogg", "libopus"), ("webm", "libopus"), ("matroska", "pcm_s16le"), ("mpegts", "aac"))
CLIPS = (("mp4", "libx264"), ("mov", "libx264"), ("webm", "libvpx-vp9"), ("matroska", "mpeg4"), ("avi", "mpeg4"),
         ("mpegts", "libx264"))
# fmt: on
_LEAVES = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from(EXTREMES),
    st.text(max_size=20),
    st.sampled_from(WORDS),
    st.none(),
    st.booleans(),
    st.just(10**400),
)  # fmt: skip
VALUES = st.one_of(
    _LEAVES,
    st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner), max_leaves=8),
)


# ---- valid files


def picture_bytes(picture: np.ndarray, kind: str, random: Random) -> bytes:
    """A picture uint8 [H, W, 3] in one of `PICTURES`, in one of the modes that the format has."""
    mode = random.choice(["RGB", "L", "P"] + (["RGBA", "I;16", "1"] if kind == "PNG" else []))
    image = Image.fromarray(picture)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    elif kind != "JPEG" or mode != "P":
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def media_bytes(
    container: str,
    sound: np.ndarray | None = None,
    codec: str = "",
    frames: list[np.ndarray] | None = None,
    video: str = "",
) -> bytes:
    """A sound [N] in [-1, 1] at 16 kHz, pictures uint8 [H, W, 3] at 25 frames a second, or both, as one file."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        streams = []
        if frames:
            pictures = output.add_stream(video, rate=25)
            pictures.height, pictures.width, pictures.pix_fmt = *frames[0].shape[:2], "yuv420p"
            streams.append((pictures, [_picture(frame, number) for number, frame in enumerate(frames)]))
        if sound is not None:
            track = output.add_stream(codec, rate=48_000 if "opus" in codec else 16_000)
            streams.append((track, [_sound(sound)]))
        for stream, units in streams:
            for unit in [*units, None]:
                output.mux(stream.encode(unit))  # type: ignore[attr-defined]
    return file.getvalue()


def _picture(frame: np.ndarray, number: int) -> av.VideoFrame:
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
    picture.pts, picture.time_base = number, Fraction(1, 25)
    return picture


def _sound(sound: np.ndarray) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray((sound * 32767).astype(np.int16)[None], format="s16", layout="mono")
    frame.sample_rate = 16_000
    return frame


# ---- ways to break bytes


def broken(data: bytes, others: list[bytes], random: Random) -> bytes:
    """`data` after one to four random changes; `others` are valid files of the same kind to splice with."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(BREAKERS)(data, others, random)
    return data


def _flip(data: bytes, others: list[bytes], random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 4, 32, 256)) if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _lie(data: bytes, others: list[bytes], random: Random) -> bytes:
    """A field of the header (or anywhere, sometimes) holds an extreme value."""
    size = random.choice((1, 2, 4, 8))
    end = min(len(data), random.choice((64, 512, len(data)))) - size
    if end < 0:
        return data
    start = random.randint(0, end)
    order = random.choice("<>")
    value = random.choice(EXTREMES) & ((1 << 8 * size) - 1)
    return data[:start] + struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], value) + data[start + size :]


def _cut(data: bytes, others: list[bytes], random: Random) -> bytes:
    return data[: random.choice((0, 1, 12, random.randint(0, len(data)), random.randint(0, len(data)), len(data) - 1))]


def _hole(data: bytes, others: list[bytes], random: Random) -> bytes:
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    return data[:start] + random.choice((b"", bytes(end - start), b"\xff" * (end - start))) + data[end:]


def _splice(data: bytes, others: list[bytes], random: Random) -> bytes:
    other = random.choice(others)
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _repeat(data: bytes, others: list[bytes], random: Random) -> bytes:
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    return data[:end] + data[start:]


def _noise(data: bytes, others: list[bytes], random: Random) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.randbytes(random.choice((1, 3, 16, 1000))) + data[at:]


BREAKERS: tuple[Callable[[bytes, list[bytes], Random], bytes], ...] = (
    _flip,
    _lie,
    _cut,
    _hole,
    _splice,
    _repeat,
    _noise,
)


# ---- ways to break what has a structure


def broken_safetensors(data: bytes, random: Random) -> bytes:
    """Tensors whose header says something else, or whose numbers are not numbers; sometimes any broken bytes."""
    size = int.from_bytes(data[:8], "little")
    kind = random.choice(("header", "header", "values", "bytes"))
    if kind == "bytes":
        return broken(data[:100_000], [data], random) + data[100_000:]
    if kind == "header":
        header = as_json(broken_tree(json.loads(data[8 : 8 + size]), random)).encode("utf-8", "surrogatepass")
        return len(header).to_bytes(8, "little") + header + data[8 + size :]
    start, end = sorted(random.randint(8 + size, len(data)) for _ in range(2))
    return data[:start] + b"\xff" * (end - start) + data[end:]


def broken_tree(tree: object, random: Random) -> object:
    """A copy of nested dicts and lists in which one to three random places hold something else or are gone."""
    tree = json.loads(json.dumps(tree))
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return odd_value(random)
        parent, key = random.choice(places)
        action = random.choice(("replace", "replace", "remove", "rename", "nest"))
        if action == "replace":
            parent[key] = odd_value(random)
        elif action == "nest":
            parent[key] = random.choice(([parent[key]], {"a": parent[key]}))
        else:
            value = parent.pop(key)
            if action == "rename" and isinstance(parent, dict):
                parent[random.choice(WORDS)] = value
    return tree


def _places(tree: object):  # type: ignore[no-untyped-def]
    """(parent, key) of every place of the tree; of a list, at most the first and last."""
    if not isinstance(tree, dict | list):
        return
    keys = list(tree) if isinstance(tree, dict) else sorted({0, len(tree) - 1} & set(range(len(tree))))
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def odd_value(random: Random) -> object:
    """A number, word or structure that a file rarely holds at this place."""
    return drawn(VALUES, random)


def drawn(strategy: SearchStrategy, random: Random) -> object:
    """One example of a strategy of Hypothesis, a function of the state of `random` alone.

    Of eight examples the last: the first ones are the simplest of the strategy.
    """
    examples = []

    @seed(random.getrandbits(32))
    @settings(max_examples=8, database=None, phases=[Phase.generate], deadline=None, suppress_health_check=HealthCheck)
    @given(strategy)
    def keep(example: object) -> None:
        examples.append(example)

    keep()
    return examples[-1]


def as_yaml(tree: object) -> str:
    return yaml.safe_dump(tree, allow_unicode=True)


def as_json(tree: object) -> str:
    return json.dumps(tree)


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return path
