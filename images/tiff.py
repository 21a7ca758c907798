"""Read a TIFF: the image of its first directory.

Two libraries read a TIFF: Pillow reads the directory, and libtiff reads it again for compressed pixels. They
accept different number types, and Pillow reads EXIF as well. So this package checks the directory and writes
a new one, which holds only the tags that pixels need, in plain types. Both libraries then read what was
checked.
"""

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

from images.errors import DamagedImage, TooComplex, UnsupportedVariant
from images.orientation import read_orientation
from images.picture import Picture, check_pixels
from images.tiff_directory import MAX_BLOCKS, YCBCR, Directory, read_directory, write

NOT_COMPRESSED, OLD_JPEG, JPEG = 1, 6, 7
COMPRESSIONS = (NOT_COMPRESSED, 2, 3, 4, 5, JPEG, 8, 32773, 32946, 34925, 50000)  # others are refused
SCAN = b"\xff\xda"
MAX_SCANS = 20  # of the JPEG in one block
MAX_LONG = 2**32 - 1  # the largest value of the type LONG
STRIP_TAGS = (Tag.StripOffsets, Tag.StripByteCounts, Tag.RowsPerStrip)
TILE_TAGS = (Tag.TileOffsets, Tag.TileByteCounts, Tag.TileWidth, Tag.TileLength)
MIN_IS_WHITE, MIN_IS_BLACK = 0, 1
REFUSED_COLOURS = {4: "a mask", **dict.fromkeys((8, 9, 10), "Lab colours"), 32803: "raw sensor data"}
UNSIGNED, SIGNED = 1, 2
KINDS = {UNSIGNED: "unsigned", SIGNED: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
ADVICE = "save it as an 8-bit PNG or TIFF, in RGB or grey."
# libtiff returns numbers in this machine's byte order; Pillow assumes the file's.
NATIVE = {"F;32BF": "F;32NF", "I;32BS": "I;32NS", "I;16BS": "I;16NS", "I;16B": "I;16N"}
# Pillow would mistake the sign of unsigned 32-bit and signed 8-bit integers, so they are read as floats.
FLOATS = {"I;32N": "F;32N", "I;32BS": "F;32B", "I;32NS": "F;32N", "L": "F;8S"}


def read(data: bytes, max_pixels: int) -> Picture:
    directory = read_directory(data)
    check_pixels(directory.number(Tag.ImageWidth, 0), directory.number(Tag.ImageLength, 0), max_pixels)
    _check_variant(directory)
    return _open(_check_blocks(directory, data, max_pixels), data)


def _check_variant(directory: Directory) -> None:
    """Refuse files that Pillow cannot decode or would decode wrongly.

    Raises UnsupportedVariant with the variant's name, and DamagedImage if the palette is missing.
    """
    photometric = directory.number(Tag.PhotometricInterpretation, MIN_IS_WHITE)
    compression = directory.number(Tag.Compression)
    bits = directory.tags.get(Tag.BitsPerSample, (1,))
    if photometric in REFUSED_COLOURS or photometric > 8:
        what = REFUSED_COLOURS.get(photometric, f"colours of kind {photometric}")
        raise UnsupportedVariant(f"This is a TIFF with {what}; {ADVICE}")
    if compression not in COMPRESSIONS:
        what = "old-style JPEG" if compression == OLD_JPEG else f"number {compression}"
        raise UnsupportedVariant(f"This is a TIFF with a compression ({what}) that is not decoded; {ADVICE}")
    has_planes = directory.number(Tag.PlanarConfiguration) == 2 and directory.number(Tag.SamplesPerPixel) > 1
    if has_planes and max(bits) > 8:
        raise UnsupportedVariant(f"This is a TIFF of {max(bits)} bits with a plane for each colour; {ADVICE}")
    subsampled = photometric == YCBCR and directory.tags.get(Tag.YCbCrSubSampling, (2, 2)) != (1, 1)
    if subsampled and compression == NOT_COMPRESSED:
        raise UnsupportedVariant(f"This is a TIFF with subsampled colours but no compression; {ADVICE}")
    if photometric == 3 and Tag.ColorMap not in directory.tags:
        raise DamagedImage("The TIFF's palette is missing; open and save the image again.")


def _check_blocks(directory: Directory, data: bytes, max_pixels: int) -> Directory:
    """Check the blocks (strips or tiles) against the limits. Returns the directory without unused blocks.

    Decoders allocate a whole block even for a small image. Raises DamagedImage, TooManyPixels and TooComplex.
    """
    width, height = directory.number(Tag.ImageWidth, 0), directory.number(Tag.ImageLength, 0)
    is_tiled = Tag.TileOffsets in directory.tags and Tag.StripOffsets not in directory.tags
    if is_tiled:
        places_tag, sizes_tag = TILE_TAGS[:2]
        block_width, block_height = directory.number(Tag.TileWidth, 0), directory.number(Tag.TileLength, 0)
    else:
        places_tag, sizes_tag = STRIP_TAGS[:2]
        block_width, block_height = width, min(height, directory.number(Tag.RowsPerStrip, MAX_LONG))
    check_pixels(block_width, block_height, max_pixels)
    places, sizes = directory.tags.get(places_tag, ()), directory.tags.get(sizes_tag, ())
    if not all((width, height, block_width, block_height)):
        raise DamagedImage("The TIFF's directory lacks a size; open and save the image again.")
    planes = directory.number(Tag.SamplesPerPixel) if directory.number(Tag.PlanarConfiguration) == 2 else 1
    count = planes * -(-width // block_width) * -(-height // block_height)
    if count > MAX_BLOCKS:
        raise TooComplex(f"The TIFF has more than {MAX_BLOCKS:,} strips or tiles; save it with larger ones.")
    if len(places) < count:
        raise DamagedImage("The TIFF lacks strips or tiles; open and save the image again.")
    places, sizes = places[:count], sizes[:count]
    if max(places + sizes, default=0) > MAX_LONG:
        raise DamagedImage("The TIFF's pixels lie beyond the end of the file; upload the whole file again.")
    _check_work(places, sizes, data, directory.number(Tag.Compression))
    unused = STRIP_TAGS if is_tiled else TILE_TAGS
    tags = directory.tags | {places_tag: places, sizes_tag: sizes}
    tags |= {} if is_tiled else {Tag.RowsPerStrip: (block_height,)}  # decoders allocate this many
    return replace(directory, tags={tag: tags[tag] for tag in tags if tag not in unused})


def _check_work(places: tuple[int, ...], sizes: tuple[int, ...], data: bytes, compression: int) -> None:
    """Refuse compressed blocks that overlap too much: their sizes add up to over twice the file's size.

    Also refuses compressed blocks of unknown size, and blocks whose JPEG has too many scans.
    """
    if compression == NOT_COMPRESSED:
        return
    if len(sizes) < len(places):
        raise DamagedImage("The TIFF does not say how long its strips or tiles are; save it again.")
    if sum(min(size, len(data)) for size in sizes) > 2 * len(data):
        raise TooComplex("The TIFF's strips or tiles share their bytes; open and save the image again.")
    if compression == JPEG:
        for place, size in zip(places, sizes, strict=True):
            if data.count(SCAN, place, place + size) > MAX_SCANS:
                raise TooComplex("A JPEG in the TIFF has too many scans; save it without compression.")


def _open(directory: Directory, data: bytes) -> Picture:
    bits, kind = directory.number(Tag.BitsPerSample), directory.number(Tag.SampleFormat)
    inverted = directory.number(Tag.PhotometricInterpretation, MIN_IS_WHITE) == MIN_IS_WHITE and bits > 8
    tags, order = dict(directory.tags), directory.order
    if inverted:  # Pillow inverts only up to 8 bits
        tags[Tag.PhotometricInterpretation] = (MIN_IS_BLACK,)
    if (bits, kind, order) == (32, UNSIGNED, ">"):  # Pillow reads only signed numbers in this byte order
        tags[Tag.SampleFormat] = (SIGNED,)
    if bits == 12:  # Pillow reads 12 bits only as little-endian; packed bits have no byte order
        order = "<"
    try:
        image = Image.open(BytesIO(write(Directory(order, tags), data)), formats=("TIFF",))
    except UnidentifiedImageError as error:
        raise UnsupportedVariant(f"This is a TIFF with {_describe(directory)}; {ADVICE}") from error
    assert isinstance(image, TiffImageFile)
    if order == ">" and directory.number(Tag.Compression) != NOT_COMPRESSED:
        image.tile = [_with_mode(tile, NATIVE) for tile in image.tile]
    if (image.mode, kind) in (("I", UNSIGNED), ("L", SIGNED)):
        image.tile = [_with_mode(tile, FLOATS) for tile in image.tile]
        image._mode = "F"
    whites = {"I;16": 4095 if bits == 12 else 65_535, "I;16B": 65_535}
    return Picture(image, read_orientation(data), whites.get(image.mode), inverted)


def _with_mode(tile: ImageFile._Tile, modes: Mapping[str, str]) -> ImageFile._Tile:
    assert isinstance(tile.args, tuple)
    rawmode, *rest = tile.args
    return tile._replace(args=(modes.get(rawmode, rawmode), *rest))


def _describe(directory: Directory) -> str:
    bits = directory.tags.get(Tag.BitsPerSample, (1,))
    kind = KINDS.get(directory.number(Tag.SampleFormat), "unknown")
    samples = directory.number(Tag.SamplesPerPixel)
    extra = len(directory.tags.get(Tag.ExtraSamples, ()))
    extras = f", {extra} of them extra" if extra else ""
    number = "1 sample" if samples == 1 else f"{samples} samples"
    return f"{number} of {'/'.join(map(str, sorted(set(bits))))} bits ({kind}) a pixel{extras}"
