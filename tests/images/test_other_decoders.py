"""The package `images` decodes files to the pixels of Chromium and ImageMagick, except for rounding.

Users see what Chromium shows. The files are those of variants.py. They have 32 x 32 pixels, so decoding does
not scale them. If `images` differs from one of the two decoders, NOT_FOLLOWED names that decoder and the
reason.
"""

import asyncio
import base64
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import async_playwright

from images.decode import decode
from tests.e2e.conftest import launch_chromium
from tests.images.files import SIDE
from tests.images.variants import FILES, SHOWN

# A pattern for names of files, the decoder from which `images` differs, and the reason.
NOT_FOLLOWED = {
    r"PNG grey \d, tRNS high bits": (
        "ImageMagick",
        "the standard ignores bits over the depth, and so does Chromium",
    ),
    r"PNG palette \d, tRNS (too long|before)": (
        "ImageMagick",
        "versions differ; users see what Chromium shows",
    ),
    r"BMP 32, alpha zero, bit masks, header (56|108|124)": (
        "Chromium",
        "Chromium shows white if alpha is zero everywhere; most viewers show the colours",
    ),
    r"BMP 32, alpha zero, bit masks, header": (
        "ImageMagick",
        "like Chromium, it shows white if alpha is zero everywhere",
    ),
    r"BMP 32, alpha (zero|opaque|partial), (header|bit masks after|no alpha)": (
        "ImageMagick",
        "it uses bytes outside all masks as alpha; Chromium does not",
    ),
    r"BMP 16, (444|231|4444|1555)|BMP 32, 10 bits, alpha": (
        "ImageMagick",
        "version 6 does not scale colours and alpha of one to four bits to the full range",
    ),
    r"BMP (1|4|8), header 64": ("ImageMagick", "version 6 reads the palette with three bytes a colour"),
    r"BMP 2, ": ("ImageMagick", "it knows no BMP of 2 bits"),
    r"BMP 8, (a move|an early end)": (
        "ImageMagick",
        "skipped pixels have no defined colour; Chromium shows black",
    ),
    r"GIF larger": ("ImageMagick", "it crops to the canvas; Chromium shows the whole frame"),
    r"WebP animation": ("ImageMagick", "version 6 returns the frame without its canvas"),
    r"AVIF": ("ImageMagick", "libheif scales colours differently and drops alpha"),
    r"AVIF alpha": ("Chromium", "it reads alpha from 0 to 255 as if it were from 16 to 235"),
    r"TIFF grey (2|4|12), min is white": ("ImageMagick", "version 6 inverts some depths and not others"),
    r"TIFF RGBA (8|16), unspecified": (
        "ImageMagick",
        "a fourth sample without a meaning (satellite images) is not alpha; Pillow and GDAL agree",
    ),
}

DRAW = """async files => {
    const canvas = document.createElement("canvas")
    canvas.width = canvas.height = 32
    const drawing = canvas.getContext("2d", { willReadFrequently: true })
    const found = {}
    for (const [name, content] of Object.entries(files)) {
        const image = new Image()
        image.src = "data:image/x;base64," + content
        try { await image.decode() } catch { continue }
        drawing.fillStyle = "white"
        drawing.fillRect(0, 0, 32, 32)
        drawing.drawImage(image, 0, 0)
        found[name] = Array.from(drawing.getImageData(0, 0, 32, 32).data)
    }
    return found
}"""


async def draw() -> dict[str, bytes]:
    contents = {name: base64.b64encode(data).decode() for name, data in SHOWN.items()}
    async with async_playwright() as playwright:
        browser = await launch_chromium(playwright)
        found = await (await browser.new_page()).evaluate(DRAW, contents)
        await browser.close()
    return {
        name: np.array(values, np.uint8).reshape(-1, 4)[:, :3].tobytes() for name, values in found.items()
    }


@pytest.fixture(scope="module")
def chromium() -> dict[str, bytes]:
    """The pixels that Chromium draws of each file on a white canvas."""
    return asyncio.run(draw())


def ask_imagemagick(data: bytes, folder: Path) -> bytes:
    """The file's pixels on white in ImageMagick; empty if it cannot read the file."""
    (folder / "file").write_bytes(data)
    command = shutil.which("magick") or "/usr/bin/convert"
    options = ["-background", "white", "-flatten", "-depth", "8", "-colorspace", "sRGB", "-type", "TrueColor"]
    asked = [command, f"{folder / 'file'}[0]", *options, "rgb:-"]
    return subprocess.run(asked, capture_output=True, check=False).stdout


def differ(one: bytes, other: bytes) -> bool:
    """Whether two images differ by more than rounding, which is 1 of 255."""
    if len(one) != len(other):
        return True
    values = [np.frombuffer(pixels, np.uint8).astype(int) for pixels in (one, other)]
    return int(abs(values[0] - values[1]).max()) > 1


@pytest.mark.parametrize("name", FILES)
def test_an_image_has_the_same_pixels_as_in_other_decoders(
    name: str, chromium: dict[str, bytes], tmp_path: Path
) -> None:
    others = {"ImageMagick": ask_imagemagick(FILES[name], tmp_path)}
    if name in SHOWN:
        others["Chromium"] = chromium[name]
    pixels = decode(FILES[name], SIDE * SIDE)
    not_followed = {who for pattern, (who, _) in NOT_FOLLOWED.items() if re.search(pattern, name)}
    assert {who for who, seen in others.items() if differ(pixels, seen)} <= not_followed
