"""Convert a decoded image to RGB of the model's input size."""

import math

from PIL import Image, ImageOps

from images.errors import UnsupportedVariant
from images.orientation import TURNS
from images.picture import Picture

INPUT_SIZE = 32  # pixels a side; schema.sql and the artifact's card must agree


def fit(picture: Picture) -> Image.Image:
    """Crop the middle square, scale it to the input size, convert its colours and turn it upright.

    Most images are converted and turned after scaling, so that the large image is rarely copied.
    """
    scaled = _scale_to_rgb(picture)
    turn = TURNS.get(picture.orientation)
    return scaled if turn is None else scaled.transpose(turn)


def _scale_to_rgb(picture: Picture) -> Image.Image:
    image = picture.image
    if image.mode in ("La", "RGBa"):  # premultiplied with alpha
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.has_transparency_data:
        scaled = _resize(image if image.mode in ("LA", "RGBA") else image.convert("RGBA")).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", scaled.size, "white"), scaled).convert("RGB")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        low, high = (0, picture.white) if picture.white else _find_range(image)
        grey = _map_grey(image, low, high)
        return (ImageOps.invert(grey) if picture.inverted else grey).convert("RGB")
    if image.mode not in ("L", "RGB", "RGBX"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return _resize(image).convert("RGB")


def _resize(image: Image.Image) -> Image.Image:
    return ImageOps.fit(image, (INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)  # antialiased


def _find_range(image: Image.Image) -> tuple[float, float]:
    """The lowest and the highest grey value. Raises UnsupportedVariant if one is not finite."""
    low, high = image.getextrema()
    assert isinstance(low, int | float) and isinstance(high, int | float)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UnsupportedVariant(
            "Some grey values are infinite or not a number; save the image as an 8-bit PNG."
        )
    return low, high


def _map_grey(image: Image.Image, low: float, high: float) -> Image.Image:
    """Resize, and map the greys `low`..`high` to 0..255. `convert` alone would turn values over 255 white."""
    factor = 255 / (high - low) if high > low else 0
    offset = 0.5 - low * factor  # rounds to the nearest value
    return _resize(image.convert("F")).point(lambda value: value * factor + offset).convert("L")
