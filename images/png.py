"""Read a PNG.

Pillow reads only the chunks that hold pixels. From the whole file it would unpack up to 64 MB of texts and
colour profiles, and refuse the file if one of them is damaged. Browsers show such files.
"""

import struct
import zlib
from collections.abc import Iterator
from functools import reduce
from io import BytesIO

from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngImageFile

from images.errors import DamagedImage, TooComplex, UnsupportedVariant
from images.orientation import UPRIGHT, read_orientation
from images.picture import Picture, check_pixels

MAGIC = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE = 0, 2, 3  # colour types; 4 and 6 are grey and RGB with alpha
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Some encoders write chunks of 4 kB: 5,000 in 20 MB. Reading past 100,000 chunks takes 50 ms.
MAX_CHUNKS = 100_000

Chunk = tuple[bytes, memoryview, bool]  # name, content, whether the checksum is right


def read(data: bytes, max_pixels: int) -> Picture:
    """The PNG's image. Of an animation, the image that programs without animation show."""
    chunks = _walk(data)
    name, header, sound = next(chunks, (b"", memoryview(b""), False))
    if name == b"CgBI":
        raise UnsupportedVariant(
            "This is a PNG in Apple's own form for apps (CgBI); export it as an ordinary PNG."
        )
    if name != b"IHDR" or not sound or len(header) != 13:
        raise DamagedImage("The PNG's header is damaged; open and save the image again.")
    width, height, depth, colours = struct.unpack_from(">IIBB", header)
    if depth not in DEPTHS.get(colours, ()) or not width or not height:
        raise DamagedImage("The PNG's header is invalid; open and save the image again.")
    check_pixels(width, height, max_pixels)
    pixels, kept = _sort_out(chunks)
    parts = [MAGIC, _pack(b"IHDR", header)]
    if colours == PALETTE:
        if not 3 <= len(kept.get(b"PLTE", b"")) <= 768:
            raise DamagedImage("The PNG's palette is missing; open and save the image again.")
        parts.append(_pack(b"PLTE", kept[b"PLTE"]))
        if 0 < len(kept.get(b"tRNS", b"")) <= 256:
            parts.append(_pack(b"tRNS", kept[b"tRNS"][: len(kept[b"PLTE"]) // 3]))
    file = b"".join([*parts, _pack(b"IDAT", b"".join(pixels)), _pack(b"IEND", b"")])
    image = Image.open(BytesIO(file), formats=("PNG",))
    if colours in (GREY, RGB) and len(kept.get(b"tRNS", b"")) >= (2 if colours == GREY else 6):
        image = _hide_colour(image, file, depth, kept[b"tRNS"])
    orientation = read_orientation(kept[b"eXIf"]) if b"eXIf" in kept else UPRIGHT
    return Picture(image, orientation, white=65_535)


def _walk(data: bytes) -> Iterator[Chunk]:
    """The chunks up to the end of the image. The last one may be cut short."""
    place = len(MAGIC)
    view = memoryview(data)
    for _ in range(MAX_CHUNKS):
        if place + 8 > len(data):
            return
        length, name = struct.unpack_from(">I4s", data, place)
        if name == b"IEND":
            return
        end = place + 8 + length
        content = view[place + 8 : end]
        # The checksum of pixel chunks is skipped: zlib data has its own.
        sound = name == b"IDAT" or zlib.crc32(view[place + 4 : end]).to_bytes(4) == data[end : end + 4]
        yield name, content, sound
        place = end + 4
    raise TooComplex(f"The PNG has more than {MAX_CHUNKS:,} chunks; open and save the image again.")


def _sort_out(chunks: Iterator[Chunk]) -> tuple[list[memoryview], dict[bytes, bytes]]:
    """The chunks of pixels, and the first chunk of each other kind that decoding needs.

    As in browsers, a chunk with a wrong checksum is skipped unless it is the palette, and transparency counts
    only between the palette and the pixels. Raises DamagedImage.
    """
    pixels: list[memoryview] = []
    kept: dict[bytes, bytes] = {}
    for name, content, sound in chunks:
        if name == b"IDAT":
            pixels.append(content)
        elif name == b"PLTE" and not sound:
            raise DamagedImage("The PNG's palette is damaged; open and save the image again.")
        elif sound and (name == b"eXIf" or (name in (b"PLTE", b"tRNS") and not pixels)):
            if name == b"PLTE":
                kept.pop(b"tRNS", None)
            kept.setdefault(name, bytes(content))
    if not pixels:
        raise DamagedImage("The PNG ends before its pixels; it is cut short. Upload the whole file again.")
    return pixels, kept


def _pack(name: bytes, content: bytes | memoryview) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return b"".join((struct.pack(">I4s", len(content), name), content, checksum.to_bytes(4)))


def _hide_colour(image: Image.Image, file: bytes, depth: int, transparency: bytes) -> Image.Image:
    """Add an alpha channel in which the file's transparent colour is transparent.

    Pillow would compare that colour with the pixels after it has scaled or cut them to 8 bits.
    """
    keys = struct.unpack_from(">H" if len(image.getbands()) == 1 else ">3H", transparency)
    if image.mode == "I;16":
        wide = image.convert("I")
        shown = wide.point([255 * (value != keys[0]) for value in range(65_536)], "L")
        image = wide.point([(value + 128) // 257 for value in range(65_536)], "L")
    elif depth == 16:
        shown = _differ(_low_bytes(file), [key & 255 for key in keys])
        shown = ImageChops.lighter(shown, _differ(image, [key >> 8 for key in keys]))
    else:
        most = 2**depth - 1  # higher bits of the colour do not count
        image = image.convert("L") if image.mode == "1" else image
        shown = _differ(image, [(key & most) * 255 // most for key in keys])
    image.putalpha(shown)
    return image


def _differ(image: Image.Image, colour: list[int]) -> Image.Image:
    """A mask: black where the image has this colour, white elsewhere."""
    masks = (
        image.getchannel(number).point([255 * (value != key) for value in range(256)])
        for number, key in enumerate(colour)
    )
    return reduce(ImageChops.lighter, masks)


def _low_bytes(file: bytes) -> Image.Image:
    """The lower eight bits of each sample of a 16-bit RGB image. Pillow itself keeps only the upper eight."""
    image = Image.open(BytesIO(file), formats=("PNG",))
    assert isinstance(image, PngImageFile)
    image.tile = [
        tile._replace(args="RGB;16L") for tile in image.tile
    ]  # reads the bytes of each sample in reverse order
    image.load()
    return image
