"""Rare variants of BMP. test_other_decoders.py compares the usual ones with other decoders."""

import struct

import numpy as np
import pytest

from images.decode import decode
from images.errors import DamagedImage, UnsupportedVariant
from tests.images.files import SIDE, bmp, few_values, pack_rows

LIMIT = 10**6  # pixels
ROWS = pack_rows(few_values(2**32 - 1), 32, "<")
UNSUPPORTED = {
    "JPEG inside": (bmp(ROWS, 0, compression=4), "BMP with JPEG inside"),
    "PNG inside": (bmp(ROWS, 0, compression=5), "BMP with PNG inside"),
    "run lengths of OS/2": (bmp(ROWS, 24, header=64, compression=4), "24-bit BMP of OS/2 with compression 4"),
    "64 bits": (bmp(ROWS, 64), "64-bit BMP with compression 0"),
}
PALETTE = [(9, 9, 9), (200, 0, 0), (0, 150, 0), (0, 0, 100)]
BLACK = (0, 0, 0)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_the_refusal_of_an_unsupported_bmp_names_the_variant(name: str) -> None:
    data, words = UNSUPPORTED[name]
    with pytest.raises(UnsupportedVariant, match=f"This is a {words}; save it as PNG"):
        decode(data, LIMIT)


@pytest.mark.parametrize("bits", [4, 8])
def test_run_length_data_may_skip_pixels_and_end_early(bits: int) -> None:
    one = b"\x20\x11" if bits == 4 else b"\x20\x01"
    two = b"\0\x04\x22\x22" if bits == 4 else b"\0\x04\x02\x02\x02\x02"
    # A row of 32 pixels; 4 pixels; a move of 8 columns and 3 rows; a run, cut at the end of the row.
    runs = one + b"\0\0" + two + b"\0\x02\x08\x03" + one + b"\0\x01"
    pixels = np.frombuffer(
        decode(bmp([runs], bits, compression=3 - bits // 4, palette=PALETTE), LIMIT), np.uint8
    )
    from_bottom = pixels.reshape(SIDE, SIDE, 3)[::-1].tolist()
    assert from_bottom[0] == [list(PALETTE[1])] * SIDE
    assert from_bottom[1] == [list(PALETTE[2])] * 4 + [list(BLACK)] * 28
    assert from_bottom[4] == [list(BLACK)] * 12 + [list(PALETTE[1])] * 20
    assert from_bottom[5:] == [[list(BLACK)] * SIDE] * 27


def test_run_length_data_without_an_end_is_refused() -> None:
    with pytest.raises(DamagedImage):
        decode(bmp([b"\x20\x01\0\0"], 8, compression=1, palette=PALETTE), LIMIT)


def test_a_header_of_os2_may_end_after_16_bytes() -> None:
    rows = pack_rows(few_values(255, 3), 8, row_multiple=4)
    whole = bmp(rows, 24, header=64)
    short = whole[:10] + struct.pack("<II", 30, 16) + whole[18:30] + whole[78:]
    assert decode(short, LIMIT) == decode(whole, LIMIT)
