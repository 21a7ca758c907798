"""Convert a decoded image to RGB of the model's input size."""

import math

from PIL import Image, ImageOps

from images.errors import UnsupportedVariant
from images.orientation import turn
from images.picture import Picture

INPUT_SIZE = 32  # pixels a side; schema.sql and the artifact's card hold the same number


def fit(picture: Picture) -> Image.Image:
    """Crop the middle square, shrink it, convert its colours and turn it upright.

    Converting and turning come after shrinking, so that the large image is rarely copied.
    """
    small = _to_rgb(picture)
    return turn(small, picture.orientation)


def _to_rgb(picture: Picture) -> Image.Image:
    image = picture.image
    if image.mode in ("La", "RGBa"):  # premultiplied with alpha
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.has_transparency_data:
        small = _shrink(image if image.mode in ("LA", "RGBA") else image.convert("RGBA")).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = _scale(image, picture.white) if picture.white else _stretch(image)
        return (ImageOps.invert(grey) if picture.inverted else grey).convert("RGB")
    if image.mode not in ("L", "RGB", "RGBX"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return _shrink(image).convert("RGB")


def _shrink(image: Image.Image) -> Image.Image:
    if image.size == (INPUT_SIZE, INPUT_SIZE):
        image.load()
        return image
    return ImageOps.fit(image, (INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)  # antialiased


def _scale(image: Image.Image, white: int) -> Image.Image:
    """Scale grey values from 0..`white` to 0..255. `convert` alone would make all values over 255 white."""
    scale = 255 / white
    return _shrink(image.convert("I")).point(lambda value: value * scale + 0.5).convert("L")


def _stretch(image: Image.Image) -> Image.Image:
    """Scale grey values of unknown range: the darkest becomes 0, the brightest 255."""
    image = image.convert("F")
    low, high = image.getextrema()
    if not (math.isfinite(low) and math.isfinite(high)):  # pyright: ignore[reportArgumentType]
        raise UnsupportedVariant(
            "Some grey values are infinite or not a number; save the image as an 8-bit PNG."
        )
    scale = 255 / (high - low) if high > low else 0  # pyright: ignore[reportOperatorIssue]
    return _shrink(image).point(lambda value: value * scale - low * scale).convert("L")  # pyright: ignore
