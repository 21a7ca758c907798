"""Identify a file's format by its first bytes."""

import re

from images.errors import UnknownFormat

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")
NAMES = {"WEBP": "WebP", "HEIF": "HEIC"}  # the names that users know

# How files begin: those of each format, and those that users upload by mistake. The first match counts.
BEGINNINGS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM",
    "TIFF": rb"II[*+]\0|MM\0[*+]",  # with `+` a BigTIFF
    "PPM": rb"P[1-6f]\s",
    # After a major brand that HEIF and AVIF share, the compatible brands tell them apart.
    "AVIF": rb"....ftyp(avi[fs]|(mif[12]|msf1|miaf)....(....)*?avi[fs])",
    "HEIF": rb"....ftyp(he[iv][cxms]|mif[12]|msf1|miaf)",
    "a Canon raw photo (CR3)": rb"....ftypcrx ",
    "a video": rb"....ftyp|\x1aE\xdf\xa3",
    "a PDF document": rb"%PDF",
    "a Photoshop document": rb"8BPS",
    "a JPEG XL image": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "a JPEG 2000 image": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ",
    "an icon (ICO)": rb"\0\0\x01\0(?!\0\0)",  # the count of images follows; a TGA has zeros there
    "a cursor (CUR)": rb"\0\0\x02\0(?!\0\0)",
    "an icon (ICNS)": rb"icns",
    "a web page (HTML)": rb"(?i:\s*<(!doctype )?html)",
    "an SVG drawing": rb"(\xef\xbb\xbf)?\s*<(.*<)?svg",  # `<svg` may follow comments and declarations
    "an XML file, perhaps an SVG drawing": rb"<\?xml",
    "a ZIP archive or an office document": rb"PK\x03\x04",
    "an OpenEXR image": rb"\x76\x2f\x31\x01",
    "a Radiance HDR image": rb"#\?RADIANCE",
}
ENDINGS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    ".heic", ".heics", ".heif", ".heifs", ".hif", ".avif", ".avifs",
    ".pbm", ".pgm", ".ppm", ".pnm", ".pfm",
}  # fmt: skip
"""The endings of files in FORMATS and of those that `images/ppm.py` reads, in lower case."""
LONGEST_BEGINNING = 256  # bytes; a list of compatible brands is shorter


def identify(data: bytes, formats: tuple[str, ...]) -> str:
    """The file's format, one of `formats`. Raises UnknownFormat."""
    head = data[:LONGEST_BEGINNING]
    found = next((name for name, start in BEGINNINGS.items() if re.match(start, head, re.DOTALL)), None)
    if found in formats:
        return found
    *names, last = (NAMES.get(name, name) for name in formats)
    supported = f"{', '.join(names)} or {last}"
    found = f"{found}, not {supported}" if found else f"not {supported}"
    raise UnknownFormat(f"The file is {found}. Convert it to one of these formats.")
