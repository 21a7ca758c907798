"""Read a PNG.

Pillow gets only the chunks that the pixels need. Given the whole file, Pillow would unpack up to 64 MB of
texts and colour profiles, and refuse the file if one of them is damaged. Browsers show such files.
"""

import struct
import zlib
from functools import reduce
from io import BytesIO

from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngImageFile

from images.errors import DamagedImage, TooComplex, UnsupportedVariant
from images.orientation import read_orientation
from images.picture import Picture, check_pixels

MAGIC = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE = 0, 2, 3  # colour types; 4 and 6 are grey and RGB with alpha
# Some encoders write chunks of 4 kB: 5,000 in 20 MB. Reading 100,000 small chunks takes 50 ms.
MAX_CHUNKS = 100_000


def read(data: bytes, max_pixels: int) -> Picture:
    """The PNG's image. Of an animation, the image that programs without support for animations show."""
    if data[12:16] == b"CgBI":
        raise UnsupportedVariant(
            "This is a PNG in Apple's own form for apps (CgBI); export it as an ordinary PNG."
        )
    chunks, pixels = _read_chunks(data)
    header, palette, transparency = (chunks.get(name, b"") for name in (b"IHDR", b"PLTE", b"tRNS"))
    width, height, depth, colour_type = struct.unpack(">IIBB3x", header)
    check_pixels(width, height, max_pixels)
    parts = [MAGIC, _pack(b"IHDR", header)]
    if colour_type == PALETTE:
        if not 3 <= len(palette) <= 768:
            raise DamagedImage("The PNG has no palette, or a wrong one; open and save the image again.")
        parts.append(_pack(b"PLTE", palette))
        if 0 < len(transparency) <= 256:
            parts.append(_pack(b"tRNS", transparency[: len(palette) // 3]))
    file = b"".join([*parts, _pack(b"IDAT", pixels), _pack(b"IEND", b"")])
    image = Image.open(BytesIO(file), formats=("PNG",))
    if colour_type in (GREY, RGB) and len(transparency) >= (2 if colour_type == GREY else 6):
        image = _hide_colour(image, file, depth, transparency)
    return Picture(image, read_orientation(chunks.get(b"eXIf", b"")), white=65_535)


def _read_chunks(data: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """The first chunk of each kind that decoding needs, and the content of all chunks of pixels.

    A chunk with a wrong checksum is skipped, but pixels are kept and a damaged palette is refused.
    Transparency counts only after the palette, if any, and before the pixels. Browsers do the same. The last
    chunk may be cut short. Raises ImageError.
    """
    view = memoryview(data)
    chunks: dict[bytes, bytes] = {}
    pixels: list[memoryview] = []
    place = len(MAGIC)
    for _ in range(MAX_CHUNKS):
        if place + 8 > len(data) or data[place + 4 : place + 8] == b"IEND":
            return chunks, b"".join(pixels)
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        content = view[place + 8 : end]
        if name == b"IDAT":  # the checksum is not read: zlib data has its own
            pixels.append(content)
        elif zlib.crc32(view[place + 4 : end]).to_bytes(4) != data[end : end + 4]:
            if name == b"PLTE":
                raise DamagedImage("The PNG's palette is damaged; open and save the image again.")
        elif name in (b"IHDR", b"eXIf") or (name in (b"PLTE", b"tRNS") and not pixels):
            if name == b"PLTE":
                chunks.pop(b"tRNS", None)
            chunks.setdefault(name, bytes(content))
        place = end + 4
    raise TooComplex(f"The PNG has more than {MAX_CHUNKS:,} chunks; open and save the image again.")


def _pack(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return b"".join((struct.pack(">I4s", len(content), name), content, checksum.to_bytes(4)))


def _hide_colour(image: Image.Image, file: bytes, depth: int, transparency: bytes) -> Image.Image:
    """Add an alpha channel in which the file's transparent colour is transparent.

    Pillow would scale or cut the pixels to 8 bits before it compares them with that colour.
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
    # This mode swaps the two bytes of each sample, so Pillow keeps the lower byte.
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
    image.load()
    return image
