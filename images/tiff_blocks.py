"""The limits of a TIFF's strips and tiles: decoders allocate each in full, even for a small image."""

from dataclasses import replace

from images.errors import DamagedImage, TooComplex
from images.picture import check_pixels
from images.tiff_directory import (
    COMPRESSION,
    LENGTH,
    LONGEST,
    MAX_BLOCKS,
    PLANAR,
    ROWS_PER_STRIP,
    SAMPLES,
    STRIP_BYTES,
    STRIPS,
    TILE_BYTES,
    TILE_LENGTH,
    TILE_WIDTH,
    TILES,
    WIDTH,
    Directory,
)

JPEG = 7
SCAN = b"\xff\xda"
MAX_SCANS = 20  # of the JPEG in one block
STRIP_TAGS = (STRIPS, STRIP_BYTES, ROWS_PER_STRIP)
TILE_TAGS = (TILES, TILE_BYTES, TILE_WIDTH, TILE_LENGTH)


def check_blocks(directory: Directory, data: bytes, max_pixels: int) -> Directory:
    """Check the strips or tiles against the limits. Returns the directory with only those the image needs.

    Raises DamagedImage, TooManyPixels and TooComplex.
    """
    width, height = directory.number(WIDTH, 0), directory.number(LENGTH, 0)
    tiled = TILES in directory.tags and STRIPS not in directory.tags
    if tiled:
        block_width, block_height = directory.number(TILE_WIDTH, 0), directory.number(TILE_LENGTH, 0)
    else:
        block_width, block_height = width, directory.number(ROWS_PER_STRIP, LONGEST)
        if block_height == LONGEST:  # the format's own default: one strip
            block_height = height
    check_pixels(block_width, block_height, max_pixels)
    places, sizes = (TILES, TILE_BYTES) if tiled else (STRIPS, STRIP_BYTES)
    if not block_width or not block_height or places not in directory.tags:
        raise DamagedImage(
            "The TIFF's directory does not say where its pixels are; open and save the image again."
        )
    planes = directory.number(SAMPLES, 1) if directory.number(PLANAR, 1) == 2 else 1
    count = planes * -(-width // block_width) * -(-height // block_height)
    if count > MAX_BLOCKS:
        raise TooComplex(f"The TIFF has more than {MAX_BLOCKS:,} strips or tiles; save it with larger ones.")
    if len(directory.tags[places]) < count:
        raise DamagedImage("The TIFF lacks strips or tiles; open and save the image again.")
    tags = {
        tag: values
        for tag, values in directory.tags.items()
        if tag not in (STRIP_TAGS if tiled else TILE_TAGS)
    }
    tags |= {tag: tags[tag][:count] for tag in (places, sizes) if tag in tags}
    if any(place > LONGEST for tag in (places, sizes) for place in tags.get(tag, ())):
        raise DamagedImage("The TIFF's pixels lie beyond the end of the file; upload the whole file again.")
    _check_work(tags[places], tags.get(sizes, ()), data, tags.get(COMPRESSION, (1,))[0])
    return replace(directory, tags=tags)


def _check_work(places: tuple[int, ...], sizes: tuple[int, ...], data: bytes, compression: int) -> None:
    """Refuse blocks that share compressed bytes: decoders would unpack the same bytes again and again."""
    if compression == 1:
        return
    if len(sizes) < len(places):
        raise DamagedImage("The TIFF does not say how long its strips or tiles are; save it again.")
    if sum(min(size, len(data)) for size in sizes) > 2 * len(data):
        raise TooComplex("The TIFF's strips or tiles share their bytes; open and save the image again.")
    if compression == JPEG:
        for place, size in zip(places, sizes, strict=False):
            if data.count(SCAN, place, place + size) > MAX_SCANS:
                raise TooComplex("A JPEG in the TIFF has too many scans; save it without compression.")
