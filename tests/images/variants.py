"""Files of 32 x 32 pixels in seven formats, with many depths and kinds of transparency."""

import struct

import numpy as np
from PIL import Image

from tests.conftest import SAMPLES
from tests.images.files import SIDE, bmp, chunk, encode, few_values, gif, pack_rows, png, tiff, webp

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
COLOURS = np.random.default_rng(1).integers(0, 256, (256, 3))
PLTE = chunk(b"PLTE", COLOURS.astype(np.uint8).tobytes())
FLOATS = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)


def make_pngs() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for depth in (1, 2, 4, 8, 16):
        most = 2**depth - 1
        grey = few_values(most)
        files[f"grey {depth}"] = png(grey, depth, GREY)
        for name, key in {
            "used": int(grey[3, 3]),
            "not used": most // 2 + (most > 1),  # but at depths 1 and 2 all values are used
            "high bits": 0xFF00,
        }.items():
            files[f"grey {depth}, tRNS {name}"] = png(
                grey, depth, GREY, chunk(b"tRNS", struct.pack(">H", key))
            )
        if depth < 16:
            index = few_values(most)
            plte = chunk(b"PLTE", COLOURS.astype(np.uint8).tobytes()[: 3 * 2**depth])
            files[f"palette {depth}"] = png(index, depth, PALETTE, plte)
            for name, alphas in {
                "one entry": bytes([0]),
                "all entries": bytes(range(0, 256, 255 // most)),
                "too long": bytes(most + 2),
            }.items():
                files[f"palette {depth}, tRNS {name}"] = png(
                    index, depth, PALETTE, plte, chunk(b"tRNS", alphas)
                )
            files[f"palette {depth}, tRNS before"] = png(index, depth, PALETTE, chunk(b"tRNS", b"\0"), plte)
        if depth >= 8:
            rgb = few_values(most, 3)
            rgb[:8] = rgb[3, 3]  # a frequent colour
            rgb[4:8] += np.where(rgb[4:8] < most, 1, -1)  # another colour: each sample differs by 1
            files[f"RGB {depth}"] = png(rgb, depth, RGB)
            for name, key in {"used": rgb[3, 3], "not used": [1, 2, 3]}.items():
                files[f"RGB {depth}, tRNS {name}"] = png(
                    rgb, depth, RGB, chunk(b"tRNS", struct.pack(">3H", *key))
                )
            files[f"grey and alpha {depth}"] = png(few_values(most, 2), depth, GREY_ALPHA)
            files[f"RGBA {depth}"] = png(few_values(most, 4), depth, RGBA)
    wrong = chunk(b"tRNS", struct.pack(">H", 0), checksum=1)
    files["grey 8, tRNS with a wrong checksum"] = png(few_values(255), 8, GREY, wrong)
    return {f"PNG {name}": data for name, data in files.items()}


def make_bmps() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    palette = [(int(red), int(green), int(blue)) for red, green, blue in COLOURS]
    for bits in (1, 2, 4, 8):
        rows = pack_rows(few_values(2**bits - 1), bits, row_multiple=4)
        for header in (12, 40, 64, 108) if bits != 2 else (40, 108):
            files[f"{bits}, header {header}"] = bmp(rows, bits, header=header, palette=palette[: 2**bits])
        files[f"{bits}, top down"] = bmp(rows, bits, palette=palette[: 2**bits], top_down=True)
    two = pack_rows(few_values(1), 8, row_multiple=4)
    files["8, two greys"] = bmp(two, 8, palette=[(0, 0, 0), (255, 255, 255)])
    files["1, white first"] = bmp(
        pack_rows(few_values(1), 1, row_multiple=4), 1, palette=[(255, 255, 255), (0, 0, 0)]
    )
    dark = [(n, n, n) for n in range(16)]
    files["4, dark greys"] = bmp(pack_rows(few_values(15), 4, row_multiple=4), 4, palette=dark)
    files["24"] = bmp(pack_rows(few_values(255, 3), 8, row_multiple=4), 24)
    files["16"] = bmp(pack_rows(few_values(2**15 - 1), 16, "<"), 16)
    files["16, 565"] = bmp(
        pack_rows(few_values(2**16 - 1), 16, "<"), 16, compression=3, masks=(0xF800, 0x7E0, 0x1F)
    )
    for name, bits, masks in (
        ("444", 16, (0xF00, 0xF0, 0xF)),
        ("231", 16, (0x30, 0xE, 1)),
        ("4444", 16, (0xF00, 0xF0, 0xF, 0xF000)),
        ("1555", 16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        ("unused last", 32, (0xFF, 0xFF00, 0xFF0000)),
        ("unused first", 32, (0xFF00, 0xFF0000, 0xFF000000)),
        ("10 bits", 32, (0x3FF00000, 0xFFC00, 0x3FF)),
        ("10 bits, alpha", 32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
        ("alpha first", 32, (0xFF00, 0xFF0000, 0xFF000000, 0xFF)),
    ):
        rows = pack_rows(few_values(2**bits - 1), bits, "<")
        header = 40 if len(masks) == 3 else 108
        files[f"{bits}, {name}"] = bmp(rows, bits, header=header, compression=3, masks=masks)
    bgra = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for name, alpha in {"zero": 0, "opaque": 255, "partial": 128}.items():
        four = few_values(255, 4)
        four[:, :, 3] = alpha
        four[:16, :, 3] = 0 if alpha == 0 else 255
        rows = pack_rows(four, 8)
        for header in (40, 108, 124):
            files[f"32, alpha {name}, header {header}"] = bmp(rows, 32, header=header)
        for header in (56, 108, 124):
            files[f"32, alpha {name}, bit masks, header {header}"] = bmp(
                rows, 32, header=header, compression=3, masks=bgra
            )
        files[f"32, alpha {name}, no alpha mask"] = bmp(rows, 32, header=108, compression=3, masks=bgra[:3])
        files[f"32, alpha {name}, bit masks after a short header"] = bmp(
            rows, 32, compression=3, masks=bgra[:3]
        )
    runs = [bytes(part for n in range(4) for part in (8, (n + row) % 7)) + b"\0\0" for row in range(SIDE)]
    files["8, runs"] = bmp(runs, 8, compression=1, palette=palette)
    pixels = [b"\0\x20" + bytes(n % 7 for n in range(32)) + b"\0\0"] * SIDE
    files["8, literal pixels"] = bmp(pixels, 8, compression=1, palette=palette)
    files["8, an early end"] = bmp([b"\x20\x05\0\x01"], 8, compression=1, palette=palette)
    files["8, a move"] = bmp([b"\0\x02\x03\x04\x10\x05\0\x01"], 8, compression=1, palette=palette)
    files["4, runs"] = bmp(runs, 4, compression=2, palette=palette[:16])
    return {f"BMP {name}": data for name, data in files.items()}


def make_others() -> dict[str, bytes]:
    values = [int(value) for value in few_values(3).reshape(-1)]
    part = [int(value) for value in few_values(3)[:16, :20].reshape(-1)]
    files = {
        "GIF": gif((SIDE, SIDE), (0, 0, SIDE, SIDE), values),
        "GIF transparent": gif((SIDE, SIDE), (0, 0, SIDE, SIDE), values, transparent=2),
        "GIF part": gif((SIDE, SIDE), (5, 3, 20, 16), part),
        "GIF part, transparent": gif((SIDE, SIDE), (5, 3, 20, 16), part, transparent=1),
        "GIF grey part": gif((SIDE, SIDE), (5, 3, 20, 16), part, palette=bytes(n // 3 for n in range(12))),
        "GIF larger than its canvas": gif((20, 20), (0, 0, SIDE, SIDE), values),
    }
    with Image.open(SAMPLES / "cat.jpg") as sample:
        photo = sample.convert("RGB").resize((SIDE, SIDE))
    clear = photo.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((SIDE, SIDE)))
    files |= {
        "WebP lossless": encode(photo, "WEBP", lossless=True),
        "WebP lossless, alpha": encode(clear, "WEBP", lossless=True, exact=True),
        "WebP lossy": encode(photo, "WEBP"),
        "WebP lossy, alpha": encode(clear, "WEBP"),
        "WebP animation": webp((SIDE, SIDE), (0, 0), photo),
        "WebP animation, part": webp((SIDE, SIDE), (8, 4), photo.crop((0, 0, 20, 16))),
        "WebP animation, part with alpha": webp((SIDE, SIDE), (8, 4), clear.crop((0, 8, 20, 24))),
        "WebP animation, lossy part with alpha": webp(
            (SIDE, SIDE), (8, 4), clear.crop((0, 8, 20, 24)), lossless=False
        ),
        "JPEG": encode(photo, "JPEG", quality=95, subsampling=0),
        "JPEG progressive": encode(photo, "JPEG", quality=95, subsampling=0, progressive=True),
        "JPEG grey": encode(photo.convert("L"), "JPEG", quality=95),
        "JPEG CMYK": encode(photo.convert("CMYK"), "JPEG", quality=100),
        "AVIF": encode(photo, "AVIF", quality=90, subsampling="4:4:4"),
        "AVIF alpha": encode(clear, "AVIF", quality=90, subsampling="4:4:4"),
    }
    return files


def make_tiffs() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name, order, compression in (
        ("II", "<", 1),
        ("II deflated", "<", 8),
        ("MM", ">", 1),
        ("MM deflated", ">", 8),
    ):
        made = make_grey_tiffs(order, compression) | make_colour_tiffs(order, compression)
        files |= {f"TIFF {what}, {name}": data for what, data in made.items()}
    return files


def make_grey_tiffs(order: str, compression: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for bits in (1, 2, 4, 8, 12, 16):
        grey = few_values(2**bits - 1)
        files[f"grey {bits}"] = tiff(grey, bits, 1, order, t259=(compression,))
        files[f"grey {bits}, min is white"] = tiff(grey, bits, 0, order, t259=(compression,))
    for what, extra in {"premultiplied": 1, "alpha": 2}.items():
        two = few_values(255, 2)
        two[:, :, 0] = np.minimum(two[:, :, 0], two[:, :, 1])
        files[f"grey and {what} 8"] = tiff(two, 8, 1, order, t259=(compression,), t338=(extra,))
    return files | {"float 32": tiff(FLOATS, 32, 1, order, t259=(compression,))}


def make_colour_tiffs(order: str, compression: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for bits in (8, 16):
        most = 2**bits - 1
        files[f"RGB {bits}"] = tiff(few_values(most, 3), bits, 2, order, t259=(compression,))
        for extra, what in {0: "unspecified", 1: "premultiplied", 2: "alpha"}.items():
            four = few_values(most, 4)
            if extra == 1:
                four[:, :, :3] = np.minimum(four[:, :, :3], four[:, :, 3:])
            files[f"RGBA {bits}, {what}"] = tiff(four, bits, 2, order, t259=(compression,), t338=(extra,))
        files[f"CMYK {bits}"] = tiff(few_values(most, 4), bits, 5, order, t259=(compression,))
    for bits in (1, 4, 8):
        colours = tuple(int(value) * 257 for channel in range(3) for value in COLOURS[: 2**bits, channel])
        index = few_values(2**bits - 1)
        files[f"palette {bits}"] = tiff(index, bits, 3, order, t259=(compression,), t320=colours)
    return files | {"planes 8": tiff(few_values(255, 3), 8, 2, order, t259=(compression,), t284=(2,))}


SHOWN = make_pngs() | make_bmps() | make_others()  # formats that browsers show
FILES = SHOWN | make_tiffs()
