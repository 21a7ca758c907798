"""From a decoded image to RGB of the model's input size."""

from PIL import Image, ImageOps

INPUT_SIZE = 32  # pixels a side; the row's check and the artifact's card say the same


def fit(image: Image.Image) -> Image.Image:
    """Crop and shrink first, then change colours: a large image is copied as seldom as can be."""
    if image.has_transparency_data:
        small = _shrink(image if image.mode == "RGBA" else image.convert("RGBA"))
        return Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
    if image.mode.startswith("I;16"):
        # Sixteen bits a pixel: keep the upper eight, where a plain conversion would saturate.
        return _shrink(image.convert("I")).point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if image.mode in ("I", "F"):
        return _stretch(image.convert("F")).convert("RGB")
    return _shrink(image if image.mode in ("L", "RGB") else image.convert("RGB")).convert("RGB")


def _shrink(image: Image.Image) -> Image.Image:
    if image.size == (INPUT_SIZE, INPUT_SIZE):
        return image
    return ImageOps.fit(image, (INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)  # antialiased


def _stretch(image: Image.Image) -> Image.Image:
    """Grey values of unknown range: the darkest becomes 0, the brightest 255."""
    low, high = image.getextrema()
    scale = 255 / (high - low) if high > low else 0  # pyright: ignore[reportOperatorIssue]
    return _shrink(image).point(lambda value: value * scale - low * scale).convert("L")  # pyright: ignore
