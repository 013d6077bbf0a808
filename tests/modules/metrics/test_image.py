import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from modules.metrics.image import TruePictures, detail, frame_psnr, l1, psnr, ssim


def test_psnr_of_a_known_error():
    target = torch.zeros(2, 3, 4, 4)
    assert psnr(target + 0.2, target) == pytest.approx(20.0, abs=1e-4)
    assert psnr(-torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4)) == pytest.approx(0.0)


def test_psnr_is_the_mean_of_the_pictures_and_ends_at_100_db():
    target = torch.zeros(2, 3, 4, 4)
    one = target.clone()
    one[1] += 0.2
    assert psnr(target, target) == pytest.approx(100.0) and psnr(one, target) == pytest.approx(60.0, abs=1e-3)


def test_beyond_the_range_nothing_is_worse_than_at_its_end():
    target = torch.zeros(1, 3, 4, 4)
    assert psnr(target + 5, target) == psnr(target + 1, target)


@pytest.fixture
def pictures(generator: torch.Generator) -> torch.Tensor:
    """Smooth random pictures with some grain, [2, 3, 32, 32] in [0, 1]."""
    coarse = torch.nn.functional.interpolate(torch.rand(2, 3, 5, 5, generator=generator), (32, 32), mode="bicubic")
    return (coarse + 0.05 * torch.randn(2, 3, 32, 32, generator=generator)).clamp(0.1, 0.8)


def test_each_frame_has_its_own_number(pictures):
    made = pictures.clone()
    made[1] += 0.1
    assert l1(made, pictures).tolist() == pytest.approx([0, 0.1], abs=1e-6)
    assert frame_psnr(made, pictures).tolist() == pytest.approx([100, 20], abs=1e-3)
    same, other = ssim(made, pictures).tolist()
    assert same == pytest.approx(1, abs=1e-5) and 0.5 < other < 0.999


def test_the_psnr_of_validation_is_that_of_the_frames(pictures):
    made = (pictures + 0.07 * pictures.roll(1, 0)).clamp(0, 1)
    torch.testing.assert_close(psnr(2 * made - 1, 2 * pictures - 1), frame_psnr(made, pictures).mean())


def test_a_mask_is_what_counts_and_not_what_is_black(pictures):
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, :16] = 1
    made = pictures.clone()
    made[:, :, :16] += 0.1
    made[:, :, 24:] = 0
    assert l1(made, pictures, mask).tolist() == pytest.approx([0.1, 0.1], abs=1e-6)
    assert frame_psnr(made, pictures, mask).tolist() == pytest.approx([20, 20], abs=1e-3)
    torch.testing.assert_close(frame_psnr(made, pictures, mask.bool()), frame_psnr(made, pictures, mask))
    assert (ssim(made, pictures, mask) > ssim(made, pictures, 1 - mask)).all()
    assert l1(made, pictures, torch.zeros(2, 1, 32, 32)).isnan().all()


def test_ssim_of_a_constant_pair_is_its_luminance_term():
    a, b, c1 = 0.4, 0.6, 0.01**2
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    value = ssim(torch.full((1, 3, 24, 24), a), torch.full((1, 3, 24, 24), b))
    assert float(value) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("flat", [False, True])
def test_ssim_is_that_of_the_library(pictures, generator, flat):
    near = 4e-6 if flat else 1e-6  # bright and flat: rounding of float32
    truth = torch.full((2, 3, 40, 33), 0.9) if flat else pictures
    made = (truth + 0.1 * torch.randn(truth.shape, generator=generator)).clamp(0, 1)
    _, map_ = structural_similarity_index_measure(  # in float64: the library's own float32 is off by 1e-5
        made.double(), truth.double(), data_range=1.0, reduction="none", return_full_image=True
    )
    torch.testing.assert_close(ssim(made, truth).double(), map_.mean(dim=(1, 2, 3)), rtol=0, atol=near)
    mask = torch.rand(2, 1, *truth.shape[2:], generator=generator) > 0.5
    expected = (map_.mean(dim=1, keepdim=True) * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))
    torch.testing.assert_close(ssim(made, truth, mask).double(), expected, rtol=0, atol=near)


def test_a_comparison_of_all_at_once_gives_the_same_numbers(pictures, generator):
    made = (pictures + 0.1 * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)
    masks = {"": None, "_part": torch.rand(2, 1, 32, 32, generator=generator) > 0.5}
    found = TruePictures(pictures, masks).compare(made)
    for name, metric in {"l1": l1, "psnr": frame_psnr, "ssim": ssim, "detail": detail}.items():
        for end, mask in masks.items():
            torch.testing.assert_close(found[name + end], metric(made, pictures, mask), rtol=1e-5, atol=1e-6)


def test_detail_falls_with_blur_rises_with_noise_and_scales_with_contrast(pictures, generator):
    blurred = torch.nn.functional.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
    noisy = pictures + 0.1 * torch.randn(pictures.shape, generator=generator)
    assert (detail(blurred, pictures) < 0.6).all() and (detail(noisy, pictures) > 1.3).all()
    torch.testing.assert_close(detail(0.5 * pictures, pictures), torch.full((2,), 0.5))
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    torch.testing.assert_close(detail(pictures, pictures, mask), torch.ones(2))
    assert (detail(blurred, pictures, mask) < 0.6).all()


def test_the_laplacian_of_one_bright_pixel_is_known():
    truth, made = torch.zeros(1, 3, 9, 9), torch.zeros(1, 3, 9, 9)
    truth[..., 4, 4], made[..., 4, 4] = 0.5, 1.0
    assert float(detail(made, truth)) == pytest.approx(2)
    line = torch.zeros(1, 3, 9, 9)
    line[..., 4, :] = 0.5  # energy of a row: (-2)^2 + 1 + 1 a pixel, nine pixels; of a dot: 16 + 4
    assert float(detail(line, truth)) == pytest.approx((9 * 6 / 20) ** 0.5)
