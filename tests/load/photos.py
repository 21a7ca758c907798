"""The images that the load tests send: CIFAR-10 samples as they are, and as photos of 640 x 480 pixels."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import SAMPLES

SIZES = ("32x32", "640x480")
PHOTO = (640, 480)
JPEG_QUALITY = 85
GRAIN = 6.0  # standard deviation of the noise, out of 255; with it a photo has about 65 kB


def read_images(size: str) -> list[bytes]:
    """Ten JPEG files, one for each class. `size` is one of SIZES."""
    samples = sorted(SAMPLES.glob("*.jpg"))
    return [
        enlarge(file, seed) if size == "640x480" else file.read_bytes() for seed, file in enumerate(samples)
    ]


def enlarge(file: Path, seed: int) -> bytes:
    """A JPEG of 640 x 480 pixels with noise like a camera's. Without noise it would have about 20 kB."""
    with Image.open(file) as small:
        smooth = np.asarray(small.convert("RGB").resize(PHOTO, Image.Resampling.BICUBIC), np.float32)
    grain = np.random.default_rng(seed).normal(0, GRAIN, (*smooth.shape[:2], 1))
    photo = BytesIO()
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(
        photo, "JPEG", quality=JPEG_QUALITY
    )
    return photo.getvalue()


def build_request(images: Sequence[bytes], headers: str = "") -> bytes:
    """One upload of one file or several. Each line of `headers` ends with CR LF."""
    boundary = "bench-boundary"
    disposition = 'Content-Disposition: form-data; name="file"; filename='
    parts = [
        f'--{boundary}\r\n{disposition}"{number}.jpg"\r\n\r\n'.encode() + image
        for number, image in enumerate(images)
    ]
    body = b"\r\n".join(parts) + f"\r\n--{boundary}--\r\n".encode()
    head = (
        f"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n{headers}"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
