"""Finds the encoding of the names in an archive, and replaces their backslashes.

Windows writes the names in a .zip in the code page of its language, and does not record which one.
"""

import re
import struct
import unicodedata
import zlib
from collections.abc import Sequence
from itertools import pairwise
from zipfile import ZipInfo

import chardet

UTF8_FLAG = 0x800
UNICODE_PATH = 0x7075  # Info-ZIP's extra field: the name in UTF-8, in addition to the one in a code page
# Code pages that Windows uses for different languages. cp437 decodes every byte, so there is always a result.
# If several fit equally well and `chardet` cannot choose, the first of them is used.
CODE_PAGES = (
    "cp437", "cp850", "cp852", "cp866", "cp857", "cp737", "cp720", "cp874", "gb18030", "cp932", "cp949",
    "big5hkscs", "cp1251", "cp1252",
)  # fmt: skip
# A match lies in one part of a path, from its first byte outside ASCII to one byte after the last (in cp932
# a letter can end with an ASCII byte), and includes the ASCII letters before and after.
FOREIGN = re.compile(rb"[A-Za-z]*[\x80-\xff](?:[^/]*[\x80-\xff])?[^/]?[A-Za-z]*")
SAMPLE = 20_000  # characters that are examined; more did not change any decision
EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "KATAKANA-HIRAGANA"}  # a word may mix these scripts


def read_name(entry: ZipInfo) -> str | bytes:
    """An entry's name: text if the archive has it in UTF-8 and says so, else bytes."""
    if entry.flag_bits & UTF8_FLAG:
        return entry.orig_filename
    stored = entry.orig_filename.encode("cp437")  # zipfile has decoded an unmarked name as cp437
    extra = entry.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == UNICODE_PATH and len(field) > 5 and field[1:5] == struct.pack("<I", zlib.crc32(stored)):
            return field[5:].decode(errors="replace")
    return stored


def find_encoding(stored: Sequence[bytes]) -> str:
    """UTF-8 if all names are valid UTF-8; else the code page with the fewest oddities.

    If several code pages have equally few, `chardet` chooses.
    """
    text = b"\n".join(sorted({word for name in stored for word in FOREIGN.findall(name)}))
    if _decode(text, "utf-8") is not None:
        return "utf-8"
    readings = {page: reading for page in CODE_PAGES if (reading := _decode(text, page)) is not None}
    oddities = {page: _count_oddities(reading[:SAMPLE]) for page, reading in readings.items()}
    fitting = [page for page in readings if oddities[page] == min(oddities.values())]
    if len({readings[page] for page in fitting}) == 1:
        return fitting[0]
    guess = chardet.detect(text, include_encodings=fitting, no_match_encoding=fitting[0])["encoding"]
    return guess or fitting[0]


def use_slashes(names: Sequence[str]) -> list[str]:
    """The same names, with slashes between folders.

    Some programs on Windows write backslashes. If slashes already separate train/<class>/file, a backslash is
    part of a name.
    """
    if any("train" in name.split("/")[:-2] for name in names):
        return list(names)
    return [name.replace("\\", "/") for name in names]


def _decode(text: bytes, encoding: str) -> str | None:
    try:
        return text.decode(encoding)
    except UnicodeDecodeError:
        return None


def _count_oddities(text: str) -> int:
    """Count what names rarely contain: symbols, two scripts in a word, a capital after a small letter."""
    odd = sum(not c.isascii() and (unicodedata.category(c)[0] not in "LM" or _is_rare(c)) for c in text)
    for word in re.findall(r"[^\W\d_]+", text):
        odd += sum(_get_script(a) != _get_script(b) for a, b in pairwise(word))
        odd += sum(a.islower() and b.isupper() for a, b in pairwise(word))
    return odd


def _is_rare(character: str) -> bool:
    return "\uff00" <= character <= "\uffef"  # half-width and full-width forms


def _get_script(letter: str) -> str:
    script = unicodedata.name(letter, "?").split()[0]
    return "CJK" if script in EAST_ASIAN else script
