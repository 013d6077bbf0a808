import numpy as np
import torch

from modules.media.pixels import to_float, to_pixels, to_tensor, to_uint8


def test_every_byte_survives_the_way_there_and_back():
    pixels = torch.arange(256, dtype=torch.uint8)
    numbers = to_float(pixels)
    assert numbers.dtype == torch.float32 and numbers[[0, -1]].tolist() == [-1.0, 1.0]
    assert torch.equal(to_uint8(numbers), pixels)


def test_numbers_are_rounded_to_the_nearest_byte_and_clamped():
    step = 2 / 255
    image = torch.tensor([-9.0, -1.0, -1 + 0.4 * step, -1 + 0.6 * step, 0.0, 1.0, 1.001, 9.0])
    assert to_uint8(image).tolist() == [0, 0, 0, 1, 128, 255, 255, 255]


def test_half_precision_is_widened_before_it_is_rounded():
    image = torch.linspace(-1, 1, 1001)
    assert torch.equal(to_uint8(image.bfloat16()), to_uint8(image.bfloat16().float()))


def test_pictures_survive_the_way_to_tensors_and_back():
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    assert to_tensor(picture).shape == (1, 3, 7, 5)
    assert np.array_equal(to_pixels(to_tensor(picture))[0], picture)
    frames = np.stack([picture, 255 - picture])
    assert np.array_equal(to_pixels(to_tensor(frames)), frames)


def test_pixels_lie_in_memory_as_their_shape_says_and_the_input_stays():
    image = torch.rand(2, 3, 4, 5) * 3 - 1.5
    before = image.clone()
    assert to_pixels(image).flags["C_CONTIGUOUS"] and torch.equal(image, before)
