"""The refusal of an unsupported BMP names the variant. test_other_decoders.py covers the supported ones."""

import pytest

from images.decode import decode
from images.errors import UnsupportedVariant
from tests.images.files import bmp, few_values, pack_rows

LIMIT = 10**6
WIDE = pack_rows(few_values(2**32 - 1), 32, "<")
NARROW = pack_rows(few_values(2**16 - 1), 16, "<")
NAMED = {
    "JPEG inside": (bmp(WIDE, 0, compression=4), "BMP with JPEG inside"),
    "PNG inside": (bmp(WIDE, 0, compression=5), "BMP with PNG inside"),
    "10 bits a colour": (
        bmp(WIDE, 32, compression=3, masks=(0x3FF00000, 0xFFC00, 0x3FF)),
        "32-bit BMP with unusual bit masks",
    ),
    "4 bits a colour": (
        bmp(NARROW, 16, compression=3, masks=(0xF00, 0xF0, 0xF)),
        "16-bit BMP with unusual bit masks",
    ),
    "16 bits with alpha": (
        bmp(NARROW, 16, header=108, compression=3, masks=(0xF00, 0xF0, 0xF, 0xF000)),
        "16-bit BMP with transparency",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_the_refusal_of_an_unsupported_bmp_names_the_variant(name: str) -> None:
    data, words = NAMED[name]
    with pytest.raises(UnsupportedVariant, match=f"This is a {words}; save it as PNG"):
        decode(data, LIMIT)
