"""A tiny ONNX network as bytes, so that the tests need no package to write one (protobuf: tag, length, content)."""

import numpy as np

_FLOAT, _INT64 = 1, 7


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _tensor(name: str, array: np.ndarray) -> bytes:
    kind = _FLOAT if array.dtype == np.float32 else _INT64
    return (
        b"".join(_number(1, n) for n in array.shape) + _number(2, kind) + _bytes(8, name) + _bytes(9, array.tobytes())
    )


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dimensions = b"".join(_bytes(1, _number(1, n)) for n in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, _FLOAT) + _bytes(2, dimensions)))


def _node(kind: str, inputs: list[str], output: str, **integers: int) -> bytes:
    attributes = b"".join(
        _bytes(5, _bytes(1, name) + _number(3, value) + _number(20, 2)) for name, value in integers.items()
    )
    return b"".join(_bytes(1, name) for name in inputs) + _bytes(2, output) + _bytes(4, kind) + attributes


def pooling_network(weights: np.ndarray) -> bytes:
    """Images [1, 3, 112, 112] -> mean over the pixels -> weights [D, 3] times that: [1, D]."""
    graph = b"".join(
        [
            _bytes(1, _node("GlobalAveragePool", ["image"], "pooled")),
            _bytes(1, _node("Flatten", ["pooled"], "flat", axis=1)),
            _bytes(1, _node("Gemm", ["flat", "weights"], "vector", transB=1)),
            _bytes(2, "tiny"),
            _bytes(5, _tensor("weights", weights.astype(np.float32))),
            _bytes(11, _value("image", (1, 3, 112, 112))),
            _bytes(12, _value("vector", (1, len(weights)))),
        ]
    )
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _number(2, 13))
