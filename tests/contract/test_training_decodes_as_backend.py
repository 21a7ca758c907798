"""Training decodes an image to the same pixels as the backend."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from images.decode import FORMATS, decode
from tests.images.files import encode
from training import data, files

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (300, 500, 3), dtype=np.uint8)
GREY = RANDOM.integers(0, 2**16, (70, 50), dtype=np.uint16)
TURNED = Image.Exif()
TURNED[0x0112] = 6  # the orientation

FILES = {
    "large.jpg": encode(Image.fromarray(COLOURS), "JPEG", quality=90),
    "turned.jpg": encode(Image.fromarray(COLOURS[:100, :60]), "JPEG", exif=TURNED),
    "small.png": encode(Image.fromarray(COLOURS[:32, :32]), "PNG"),
    "palette.gif": encode(Image.fromarray(COLOURS).quantize(16), "GIF"),
    "transparent.png": encode(Image.fromarray(COLOURS).convert("RGBA").rotate(20), "PNG"),
    "grey.png": encode(Image.fromarray(COLOURS[:, :, 0]), "PNG"),
    "sixteen-bits.png": encode(Image.fromarray(GREY), "PNG"),
    "floats.tiff": encode(Image.fromarray(np.where(GREY > 65_000, 9e4, GREY).astype(np.float32)), "TIFF"),
    "integers.tiff": encode(Image.fromarray(GREY.astype(np.int32) - 30_000), "TIFF"),
    "photo.webp": encode(Image.fromarray(COLOURS), "WEBP"),
    "large.bmp": encode(Image.fromarray(COLOURS), "BMP"),
    "photo.avif": encode(Image.fromarray(COLOURS), "AVIF", speed=10),
    "without-its-end.jpg": encode(Image.fromarray(COLOURS), "JPEG")[:-2],
    "odd-exif.jpg": encode(Image.fromarray(COLOURS), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\0\0\2\0"),
}


@pytest.fixture(scope="module")
def pixels_in_training(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The pixels of each file as training decodes it."""
    folder: Path = tmp_path_factory.mktemp("images")
    for part in ("train", "test"):
        for name in ("one", "two"):
            (folder / part / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(folder / part / name / "a.png")
    for number in range(64):
        Image.new("RGB", (32, 32)).save(folder / f"train/one/{number}.png")
    for file, content in FILES.items():
        (folder / "test/two" / file).write_bytes(content)
    images = data.load(folder, folder / "cache").test.images[1:]  # the first image is of the other class
    return dict(zip(sorted(["a.png", *FILES]), (image.tobytes() for image in images), strict=True))


@pytest.mark.parametrize("file", FILES)
def test_training_and_the_backend_decode_an_image_to_the_same_pixels(
    file: str, pixels_in_training: dict[str, bytes]
) -> None:
    assert pixels_in_training[file] == decode(FILES[file], max_pixels=10**6)


def test_training_accepts_every_format_that_the_backend_accepts() -> None:
    assert set(FORMATS) <= set(files.FORMATS)
