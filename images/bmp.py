"""Read a BMP.

Pillow's own reader takes only some headers, depths and bit masks. So this module reads the header and expands
run-length encoding. Pillow unpacks the rows of files without that encoding.
"""

import struct
from dataclasses import dataclass

from PIL import Image, ImageChops

from images.errors import DamagedImage, TooComplex, UnknownFormat, UnsupportedVariant
from images.picture import Picture, check_pixels

# Header lengths in bytes. Programs of OS/2 may write only the first fields of a header of 64 bytes.
CORE, OS2_SHORTEST, INFO, OS2, LONGEST = 12, 16, 40, 64, 124
MIN_LENGTH_WITH_ALPHA_MASK = 56  # headers of this length or longer contain an alpha mask
RAW, RLE8, RLE4, BITFIELDS, ALPHA_BITFIELDS = 0, 1, 2, 3, 6
DEPTHS = {
    RAW: (1, 2, 4, 8, 16, 24, 32), RLE8: (8,), RLE4: (4,), BITFIELDS: (16, 32), ALPHA_BITFIELDS: (16, 32),
}  # fmt: skip
EMBEDDED_FORMATS = {4: "JPEG", 5: "PNG"}  # compressions that hold a whole file of another format
USUAL_MASKS = {16: (0x7C00, 0x3E0, 0x1F), 32: (0xFF0000, 0xFF00, 0xFF)}
ADVICE = "save it as PNG, or as a 24-bit BMP."
MAX_RUN_LENGTH_WORK = 10_000_000  # pixels plus bytes of the file; Python expands them in 1 s, at worst in 6 s


@dataclass(frozen=True)
class Header:
    width: int
    height: int
    direction: int  # 1 if the top row is stored first, else -1
    bits: int
    compression: int
    masks: tuple[int, ...]  # which bits of a pixel are red, green, blue and, if there is one, alpha
    palette: bytes  # RGB, padded to the full length for the depth
    pixels_at: int


def read(data: bytes, max_pixels: int) -> Picture:
    header = _read_header(data)
    check_pixels(header.width, header.height, max_pixels)
    if header.compression in (RLE8, RLE4):
        return Picture(_read_runs(header, data))
    pixels = data[header.pixels_at :]
    if header.bits == 24:
        return Picture(_unpack(header, pixels, "RGB", "BGR"))
    if header.bits > 8:
        return Picture(_read_masked(header, pixels))
    image = _unpack(header, pixels, "P", "P" if header.bits == 8 else f"P;{header.bits}")
    image.putpalette(header.palette)
    return Picture(image)


def _read_header(data: bytes) -> Header:
    start, size = struct.unpack_from("<II", data, 10)
    if size != CORE and not OS2_SHORTEST <= size <= LONGEST:
        raise UnknownFormat("The file begins like a BMP but is not one; save the image as PNG or JPEG.")
    if size == CORE:
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
        compression = colours = 0
    else:
        fields = data[18 : 14 + size].ljust(INFO, b"\0")
        width, height, _, bits, compression, colours = struct.unpack_from("<iiHHI12xI", fields)
    _check(width, height, bits, compression, is_os2=size < INFO or size == OS2)
    masks: tuple[int, ...] = ()
    if compression in (BITFIELDS, ALPHA_BITFIELDS):
        count = 4 if compression == ALPHA_BITFIELDS or size >= MIN_LENGTH_WITH_ALPHA_MASK else 3
        masks = struct.unpack_from(f"<{count}I", data, 54)
    palette_at = max(14 + size, 54 + 4 * len(masks)) if masks else 14 + size
    max_colours = 2**bits if bits <= 8 else 0
    entry_bytes = 3 if size == CORE else 4
    stored = data[palette_at : palette_at + entry_bytes * min(colours or max_colours, max_colours)]
    palette = b"".join(stored[at : at + 3][::-1] for at in range(0, len(stored) - 2, entry_bytes))
    return Header(
        width=width,
        height=abs(height),
        direction=1 if height < 0 else -1,
        bits=bits,
        compression=compression,
        masks=masks if any(masks) else USUAL_MASKS.get(bits, ()),
        palette=palette.ljust(3 * max_colours, b"\0"),
        pixels_at=start or palette_at + len(stored),
    )


def _check(width: int, height: int, bits: int, compression: int, *, is_os2: bool) -> None:
    if width < 1 or height == 0:
        raise DamagedImage("The BMP's header is invalid; open and save the image again.")
    if compression in EMBEDDED_FORMATS and not is_os2:
        raise UnsupportedVariant(f"This is a BMP with {EMBEDDED_FORMATS[compression]} inside; {ADVICE}")
    if bits not in DEPTHS.get(compression, ()) or (is_os2 and compression > RLE4):
        kind = "BMP of OS/2" if is_os2 else "BMP"
        raise UnsupportedVariant(f"This is a {bits}-bit {kind} with compression {compression}; {ADVICE}")


def _unpack(header: Header, pixels: bytes, mode: str, rawmode: str) -> Image.Image:
    """The image of uncompressed rows. Each row fills a multiple of four bytes."""
    stride = (header.width * header.bits + 31) // 32 * 4
    size = (header.width, header.height)
    return Image.frombytes(mode, size, pixels, "raw", rawmode, stride, header.direction)


def _read_masked(header: Header, pixels: bytes) -> Image.Image:
    """The image of pixels whose masks say which bits belong to which colour."""
    mode = "LA" if header.bits == 16 else "RGBX"
    parts = _unpack(header, pixels, mode, mode).split()  # one part for each byte of a pixel
    channels = [_gather(parts, mask) for mask in header.masks]
    # Some programs write only zeros as alpha. As in most viewers, such an image is opaque.
    if len(channels) == 4 and channels[3].getextrema() != (0, 0):
        return Image.merge("RGBA", channels)
    return Image.merge("RGB", channels[:3])


def _gather(parts: tuple[Image.Image, ...], mask: int) -> Image.Image:
    """The channel that the mask selects, scaled to 0..255."""
    shift = max(0, (mask & -mask).bit_length() - 1)
    scale = 255 / max(1, mask >> shift)
    channel = Image.new("L", parts[0].size)
    for number, part in enumerate(parts):
        part_mask = mask >> 8 * number & 255
        if part_mask == mask >> shift == 255:
            return part
        if part_mask:
            values = [round(((value & part_mask) << 8 * number >> shift) * scale) for value in range(256)]
            channel = ImageChops.add(channel, part.point(values))
    return channel


def _read_runs(header: Header, data: bytes) -> Image.Image:
    """The image of run-length encoded pixels. Pixels that the file skips are black, as in Chromium."""
    if header.width * header.height + len(data) > MAX_RUN_LENGTH_WORK:
        raise TooComplex(f"The BMP is too large for run-length encoding; {ADVICE}")
    size = (header.width, header.height)
    return Image.frombytes("RGB", size, _expand(header, data), "raw", "RGB", 0, header.direction)


def _expand(header: Header, data: bytes) -> bytes:
    """The RGB pixels, with the rows in the order of the file."""
    width, height = header.width, header.height
    rgb = bytearray(3 * width * height)
    colours = [header.palette[at : at + 3] for at in range(0, len(header.palette), 3)]
    is_rle4 = header.compression == RLE4
    pixels_of_byte = [a + b for a in colours for b in colours] if is_rle4 else colours
    x = y = 0
    at = header.pixels_at
    while y < height:
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            run = pixels_of_byte[value] * count if x < width else b""
        elif value == 0:  # the end of the row
            x, y = 0, y + 1
            continue
        elif value == 1:  # the end of the image
            break
        elif value == 2:  # a move
            x, y = x + data[at], y + data[at + 1]
            at += 2
            continue
        else:  # single pixels instead of a run, padded to an even number of bytes
            count, stored = value, data[at : at + (-(-value // 2) if is_rle4 else value)]
            run = b"".join(map(pixels_of_byte.__getitem__, stored))
            at += len(stored) + len(stored) % 2
        run = run[: 3 * min(count, max(0, width - x))]
        start = 3 * (y * width + x)
        rgb[start : start + len(run)] = run
        x += count
    return bytes(rgb)
