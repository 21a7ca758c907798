"""Read a PPM, PGM, PBM or grey PFM. Data sets may hold these formats; uploads may not."""

from io import BytesIO

from PIL import Image

from images.picture import Picture, check_pixels


def read(data: bytes, max_pixels: int) -> Picture:
    image = Image.open(BytesIO(data), formats=("PPM",))
    check_pixels(image.width, image.height, max_pixels)
    return Picture(image, white=65_535 if image.mode == "I" else None)
