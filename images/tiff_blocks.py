"""The limits of a TIFF's strips and tiles: decoders allocate each in full, even for a small image."""

from dataclasses import replace

from PIL.ExifTags import Base as Tag

from images.errors import DamagedImage, TooComplex
from images.picture import check_pixels
from images.tiff_directory import MAX_BLOCKS, Directory

NOT_COMPRESSED, JPEG = 1, 7
SCAN = b"\xff\xda"
MAX_SCANS = 20  # of the JPEG in one block
LONGEST = 2**32 - 1
STRIP_TAGS = (Tag.StripOffsets, Tag.StripByteCounts, Tag.RowsPerStrip)
TILE_TAGS = (Tag.TileOffsets, Tag.TileByteCounts, Tag.TileWidth, Tag.TileLength)


def check_blocks(directory: Directory, data: bytes, max_pixels: int) -> Directory:
    """Check the strips or tiles against the limits. Returns the directory with only those the image needs.

    Raises DamagedImage, TooManyPixels and TooComplex.
    """
    width, height = directory.number(Tag.ImageWidth, 0), directory.number(Tag.ImageLength, 0)
    is_tiled = Tag.TileOffsets in directory.tags and Tag.StripOffsets not in directory.tags
    if is_tiled:
        places_tag, sizes_tag = TILE_TAGS[:2]
        block_width, block_height = directory.number(Tag.TileWidth, 0), directory.number(Tag.TileLength, 0)
    else:
        places_tag, sizes_tag = STRIP_TAGS[:2]
        block_width, block_height = width, directory.number(Tag.RowsPerStrip, LONGEST)
        if block_height == LONGEST:  # the format's own default: one strip
            block_height = height
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
    if max(places + sizes, default=0) > LONGEST:
        raise DamagedImage("The TIFF's pixels lie beyond the end of the file; upload the whole file again.")
    _check_work(places, sizes, data, directory.number(Tag.Compression))
    unused = STRIP_TAGS if is_tiled else TILE_TAGS
    tags = directory.tags | {places_tag: places, sizes_tag: sizes}
    return replace(directory, tags={tag: tags[tag] for tag in tags if tag not in unused})


def _check_work(places: tuple[int, ...], sizes: tuple[int, ...], data: bytes, compression: int) -> None:
    """Refuse blocks that share compressed bytes: decoders would unpack the same bytes again and again."""
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
