"""Identify a file's format by its first bytes."""

import re

from images.errors import UnknownFormat

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")
NAMES = {"WEBP": "WebP", "HEIF": "HEIC"}  # the names that users know

SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
}
PPM = re.compile(rb"P[1-6f]\s")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
AVIF_BRANDS = (b"avif", b"avis")
SHARED_BRANDS = (
    b"mif1",
    b"mif2",
    b"msf1",
    b"miaf",
)  # used by HEIF and AVIF; the compatible brands tell them apart

# Files that users upload by mistake: unsupported image formats, and other kinds of file.
OTHERS = {
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop document",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\0\0\1\0": "an icon (ICO)",
    b"\0\0\2\0": "a cursor (CUR)",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML file, perhaps an SVG drawing",
    b"\x1aE\xdf\xa3": "a Matroska or WebM video",
    b"PK\3\4": "a ZIP archive or an office document",
    b"\x76\x2f\x31\x01": "an OpenEXR image",
    b"#?RADIANCE": "a Radiance HDR image",
}


def identify(data: bytes, formats: tuple[str, ...]) -> str:
    """The file's format, one of `formats`. Raises UnknownFormat."""
    found = _find(data)
    if found in formats:
        return found
    *names, last = (NAMES.get(name, name) for name in formats)
    supported = f"{', '.join(names)} or {last}"
    other = _name_other(data)
    found = f"{other}, not {supported}" if other else f"not {supported}"
    raise UnknownFormat(f"The file is {found}. Convert it to one of these formats.")


def _find(data: bytes) -> str | None:
    for signature, name in SIGNATURES.items():
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _find_by_brand(data)
    if PPM.match(data):
        return "PPM"
    return None


def _find_by_brand(data: bytes) -> str | None:
    major = data[8:12]
    size = int.from_bytes(data[:4])
    compatible = [data[place : place + 4] for place in range(16, min(size, 256), 4)]
    if major in AVIF_BRANDS or (major in SHARED_BRANDS and any(brand in AVIF_BRANDS for brand in compatible)):
        return "AVIF"
    if major in HEIF_BRANDS or major in SHARED_BRANDS:
        return "HEIF"
    return None


def _name_other(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        return "a Canon raw photo (CR3)" if data[8:12] == b"crx " else "a video"
    return next((name for signature, name in OTHERS.items() if data.startswith(signature)), None)
