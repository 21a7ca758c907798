"""An image as a format's reader returns it."""

from dataclasses import dataclass

from PIL import Image

from images.errors import TooManyPixels


@dataclass(frozen=True)
class Picture:
    """An opened image. Its pixels are not always decoded yet.

    `orientation` is EXIF's, 1 to 8. The other fields are for grey images of more than 8 bits: `white` is the
    value of white; if None, the lowest value is black, the highest white. `inverted` swaps black and white.
    """

    image: Image.Image
    orientation: int = 1
    white: int | None = None
    inverted: bool = False


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise TooManyPixels if the size is over the limit. Readers call this before they allocate memory."""
    if width * height > max_pixels:
        raise TooManyPixels(
            f"The image has {width:,} x {height:,} pixels. Width times height may be {max_pixels:,} at most; "
            "scale the image down."
        )


def place(image: Image.Image, position: tuple[int, int], canvas: tuple[int, int]) -> Image.Image:
    """The first frame of an animation on its canvas. The rest of the canvas is white."""
    if position == (0, 0) and image.size == canvas:
        return image
    placed = Image.new("RGB", canvas, "white")
    frame = image.convert("RGBA")
    placed.paste(frame, position, frame)
    return placed
