"""Photos are turned upright, whatever else their EXIF holds."""

import itertools
import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from images.decode import decode
from tests.images.files import chunk, encode, riff
from tests.images.heic import heic, imir, irot

SIDE = 32
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
ORIENTATION, SHORT = 0x0112, 3
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
Entry = tuple[int, int, int, bytes]  # tag, type, count, value

TAGS = [
    0x0000,
    0x0001,
    0x0005,
    0x0006,
    0x010F,
    0x0110,
    0x011A,
    0x0128,
    0x0132,
    0x0214,
    0x8298,
    0x9000,
    0x9286,
    0xA002,
]
TYPES = range(15)
COUNTS = [0, 1, 3, 2**31]
VALUES = [
    b"\xff\xff\xff\xff",
    b"\x1c\0\0\0",
]  # the second, in little-endian order, is an offset inside the block


def exif(order: str, entries: list[Entry], pointer: int | None = None) -> bytes:
    """An EXIF block with orientation 6. The block holds `entries`, or its tag `pointer` points to them."""

    def ifd(of: list[Entry]) -> bytes:
        packed = (struct.pack(order + "HHI", tag, kind, count) + value for tag, kind, count, value in of)
        return struct.pack(order + "H", len(of)) + b"".join(packed) + bytes(4)

    turned: Entry = (ORIENTATION, SHORT, 1, struct.pack(order + "HH", 6, 0))
    if pointer is None:
        body = ifd(sorted([turned, *(entry for entry in entries if entry[0] != ORIENTATION)]))
    else:
        place = 8 + 2 + 2 * 12 + 4
        body = ifd([turned, (pointer, 4, 1, struct.pack(order + "I", place))]) + ifd(entries)
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8) + body + bytes(8)


def put(kind: str, block: bytes) -> bytes:
    """A file of this format with this EXIF block. A HEIC is turned by its container, not by EXIF."""
    if kind == "JPEG":
        data = encode(NOISE, "JPEG", quality=95)
        content = b"Exif\0\0" + block
        return data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content + data[2:]
    if kind == "PNG":
        data = encode(NOISE)
        return data[:33] + chunk(b"eXIf", block) + data[33:]
    if kind == "HEIC":
        return heic(irot(3), exif=block)
    image = encode(NOISE, "WEBP", lossless=True)[12:]
    extended = bytes((0x08, 0, 0, 0)) + bytes((31, 0, 0)) * 2
    return riff(b"RIFF", b"WEBP" + riff(b"VP8X", extended) + image + riff(b"EXIF", block))


def put_in_tiff(order: str, entries: list[Entry], pointer: int | None) -> bytes:
    """A TIFF whose directory has orientation 6, and holds these entries or points to them."""
    pixels = NOISE.tobytes()
    start = 8 + len(pixels)
    numbers = [
        (256, SIDE),
        (257, SIDE),
        (259, 1),
        (262, 2),
        (273, 8),
        (274, 6),
        (277, 3),
        (278, SIDE),
        (279, len(pixels)),
    ]
    tags: dict[int, Entry] = {
        tag: (tag, SHORT, 1, struct.pack(order + "HH", value, 0)) for tag, value in numbers
    }  # fmt: skip
    count = len(tags) + 1 + (1 if pointer else sum(entry[0] not in tags for entry in entries))
    after = start + 2 + 12 * count + 4
    tags[258] = (258, SHORT, 3, struct.pack(order + "I", after))
    if pointer:
        tags[pointer] = (pointer, 4, 1, struct.pack(order + "I", after + 6))
    else:
        tags = {entry[0]: entry for entry in entries} | tags
    packed = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for _, entry in sorted(tags.items()))
    body = struct.pack(order + "H", len(tags)) + packed + bytes(4) + struct.pack(order + "3H", 8, 8, 8)
    if pointer:
        body += struct.pack(order + "H", len(entries))
        body += b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries) + bytes(4)
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start) + pixels + body


@pytest.mark.parametrize("pointer", [None, EXIF_IFD, GPS_IFD], ids=["first", "EXIF", "GPS"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIC"])
def test_the_orientation_is_applied_whatever_other_tag_is_present(kind: str, pointer: int | None) -> None:
    plain = put_in_tiff("<", [], None) if kind == "TIFF" else put(kind, exif("<", []))
    expected = decode(plain, SIDE * SIDE * 4)
    if kind in ("PNG", "WEBP", "TIFF"):
        assert expected == NOISE.transpose(Image.Transpose.ROTATE_270).tobytes()
    counts = [1] if kind in ("WEBP", "HEIC") else COUNTS  # these formats take longest
    for tag, type, count, value in itertools.product(TAGS, TYPES, counts, VALUES):
        order = "<>"[tag % 2]
        entries = [(tag, type, count, value)]
        data = (
            put_in_tiff(order, entries, pointer)
            if kind == "TIFF"
            else put(kind, exif(order, entries, pointer))
        )
        assert decode(data, SIDE * SIDE * 4) == expected, (tag, type, count, value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_turned_upright(orientation: int, kind: str) -> None:
    note = Image.Exif()
    note[ORIENTATION] = orientation
    options = {
        "WEBP": {"lossless": True},
        "JPEG": {"quality": 100},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    }
    smooth = NOISE.resize((4, 4)).resize((SIDE, SIDE))
    data = encode(smooth, kind, exif=note, **options.get(kind, {}))
    with Image.open(BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    assert decode(data, SIDE * SIDE) == upright.tobytes()


@pytest.mark.parametrize(
    "entry",
    [
        (ORIENTATION, 5, 1, b"\x1a\0\0\0"),  # a rational number: the offset of 6/1
        (ORIENTATION, 2, 2, b"6\0\0\0"),  # text
        (ORIENTATION, 4, 1, b"\6\0\0\0"),  # LONG
        (ORIENTATION, SHORT, 2, b"\6\0\6\0"),
        (ORIENTATION, SHORT, 1, b"\0\0\0\0"),
        (ORIENTATION, SHORT, 1, b"\x09\0\0\0"),
        (ORIENTATION, SHORT, 1, b"\xff\xff\0\0"),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_invalid_orientation_turns_nothing(kind: str, entry: Entry) -> None:
    body = struct.pack("<HHHI", 1, *entry[:3]) + entry[3] + bytes(4) + struct.pack("<II", 6, 1)
    assert decode(put(kind, b"II*\0\x08\0\0\0" + body), SIDE * SIDE) == NOISE.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIC"])
def test_a_damaged_exif_block_turns_nothing(kind: str) -> None:
    block = exif("<", [])
    upright = decode(put(kind, b""), SIDE * SIDE * 4)
    for damaged in (
        block[:4],
        block[:9],
        block[:14],
        b"XX" + block[2:],
        block[:2] + b"\x55\0" + block[4:],
        block[:4] + b"\xff" * 4 + block[8:],
        b"\0" * 40,
    ):
        assert decode(put(kind, damaged), SIDE * SIDE * 4) == upright


def test_only_the_first_exif_block_of_a_jpeg_is_used() -> None:
    turned, upright = exif("<", []), b"II*\0\x08\0\0\0" + bytes(6)
    after = len(encode(NOISE, "JPEG", quality=95)) - 2  # bytes of the file behind its EXIF block
    for first, second in ((turned, upright), (upright, turned)):
        alone = put("JPEG", first)
        both = alone[:-after] + put("JPEG", second)[2:]
        assert decode(both, SIDE * SIDE) == decode(alone, SIDE * SIDE)


def test_a_heic_is_turned_by_its_container_and_not_again_by_exif() -> None:
    """The image is red at the top and blue at the bottom."""
    upright = np.frombuffer(decode(heic(), 4096), np.uint8).reshape(SIDE, SIDE, 3)
    assert upright[0, 0, 0] > 200 > 50 > upright[31, 31, 0]
    for turns, expected in {
        (irot(1),): np.rot90(upright, 1), (irot(2),): np.rot90(upright, 2), (irot(3),): np.rot90(upright, 3),
        (imir(0),): upright[::-1], (imir(1),): upright[:, ::-1],
    }.items():  # fmt: skip
        for block in (b"", exif(">", [])):
            turned = np.frombuffer(decode(heic(*turns, exif=block), 4096), np.uint8).reshape(SIDE, SIDE, 3)
            assert int(abs(turned.astype(int) - expected).max()) <= 2
