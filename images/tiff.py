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

from images.errors import DamagedImage, UnsupportedVariant
from images.orientation import read_orientation
from images.picture import Picture, check_pixels
from images.tiff_blocks import NOT_COMPRESSED, check_blocks
from images.tiff_directory import YCBCR, Directory, read_directory, write

OLD_JPEG = 6
COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000)
MIN_IS_WHITE, MIN_IS_BLACK = 0, 1
COLOURS = {4: "a mask", 8: "Lab colours", 9: "Lab colours", 10: "Lab colours", 32803: "raw sensor data"}
KINDS = {1: "unsigned", 2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
ADVICE = "save it as an 8-bit PNG or TIFF, in RGB or grey."
# libtiff returns numbers in this machine's byte order; Pillow assumes the file's.
NATIVE = {"F;32BF": "F;32NF", "I;32BS": "I;32NS", "I;16BS": "I;16NS", "I;16B": "I;16N"}
# Pillow's 32-bit integers are signed: the brighter half of unsigned ones would be negative.
UNSIGNED = {"I;32N": "F;32"}


def read(data: bytes, max_pixels: int) -> Picture:
    directory = read_directory(data)
    check_pixels(directory.number(Tag.ImageWidth, 0), directory.number(Tag.ImageLength, 0), max_pixels)
    _check_variant(directory)
    directory = check_blocks(directory, data, max_pixels)
    return _open(directory, data)


def _check_variant(directory: Directory) -> None:
    """Raise UnsupportedVariant, with the variant's name, for files that Pillow would decode wrongly."""
    photometric = directory.number(Tag.PhotometricInterpretation, MIN_IS_WHITE)
    compression = directory.number(Tag.Compression)
    bits = directory.tags.get(Tag.BitsPerSample, (1,))
    if photometric in COLOURS or photometric > 8:
        what = COLOURS.get(photometric, f"colours of kind {photometric}")
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


def _open(directory: Directory, data: bytes) -> Picture:
    bits = directory.number(Tag.BitsPerSample)
    inverted = directory.number(Tag.PhotometricInterpretation, MIN_IS_WHITE) == MIN_IS_WHITE and bits > 8
    if inverted:  # Pillow inverts only up to 8 bits
        tags = directory.tags | {Tag.PhotometricInterpretation: (MIN_IS_BLACK,)}
        directory = replace(directory, tags=tags)
    if bits == 12:  # Pillow reads 12 bits only in this byte order; packed bits have no order
        directory = replace(directory, order="<")
    try:
        image = Image.open(BytesIO(write(directory, data)), formats=("TIFF",))
    except UnidentifiedImageError as error:
        raise UnsupportedVariant(f"This is a TIFF with {_describe(directory)}; {ADVICE}") from error
    assert isinstance(image, TiffImageFile)
    if directory.order == ">" and directory.number(Tag.Compression) != NOT_COMPRESSED:
        image.tile = [_with_mode(tile, NATIVE) for tile in image.tile]
    if image.mode == "I" and directory.number(Tag.SampleFormat) == 1:
        image._mode = "F"
        image.tile = [_with_mode(tile, UNSIGNED) for tile in image.tile]
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
    alpha = f", {extra} of them extra" if extra else ""
    number = "a sample" if samples == 1 else f"{samples} samples"
    return f"{number} of {'/'.join(map(str, sorted(set(bits))))} bits ({kind}) a pixel{alpha}"
