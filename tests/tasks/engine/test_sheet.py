import torch

from tasks.engine.sheet import CAPTION, SHEET_HEIGHT, SHEET_WIDTH, SMALLEST, captioned, text_line


def test_rows_have_captions_and_samples_stand_side_by_side():
    rows = {"truth": torch.full((2, 3, 64, 64), 1.0), "depth": torch.full((2, 1, 32, 32), -1.0)}
    picture = captioned(rows)
    assert picture.dtype == torch.uint8 and picture.shape == (2 * (CAPTION + 64), 128, 3)
    assert picture[CAPTION : CAPTION + 64].min() == 255 and picture[-64:].max() == 0
    assert picture[:CAPTION].max() > 200 and picture[:CAPTION, 60:].max() == 0  # the word, and black behind it
    assert not torch.equal(text_line("truth", 128), text_line("depth", 128))


def test_a_sheet_fits_a_screen():
    picture = captioned({str(number): torch.zeros(8, 3, 512, 512) for number in range(7)})
    assert picture.shape[0] <= SHEET_HEIGHT and picture.shape[1] <= SHEET_WIDTH
    assert captioned({"a": torch.zeros(1, 3, 16, 16)}).shape == (CAPTION + SMALLEST, SMALLEST, 3)
