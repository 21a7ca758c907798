"""File names from clients: visible text is kept, dangerous characters are replaced."""

import re
import unicodedata
from email.errors import MessageError
from email.header import decode_header, make_header

MAX_FILENAME = 255  # characters
ENCODED_WORD = r"=\?[^?\s]+\?[bq]\?[^?]*\?="  # RFC 2047; white space between two encoded words is dropped
ENCODED_WORDS = re.compile(rf"{ENCODED_WORD}(?:\s+{ENCODED_WORD})*", re.IGNORECASE | re.ASCII)
PLAIN = re.compile(r"[\w.-]+(?: [\w.-]+)*", re.ASCII)  # names that no rule changes
WINDOWS_FOLDER = re.compile(r"(?:[A-Za-z]:|\\)\\.*\\|[A-Za-z]:\\")  # C:\fakepath\, \\server\share\
# The flags of Scotland and Wales.
FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]+\U000e007f")
# Invisible characters without effect: soft hyphen, direction marks, zero-width spaces.
UNSEEN = dict.fromkeys([0xAD, 0x61C, 0x200B, 0x200E, 0x200F, *range(0x2060, 0x2065), 0xFEFF])
# Format characters (Cf) with a visible effect: joiners, and signs that enclose numbers.
SEEN_FORMAT = {
    0x180E,
    0x200C,
    0x200D,
    *range(0x600, 0x606),
    0x6DD,
    0x70F,
    0x890,
    0x891,
    0x8E2,
    0x110BD,
    0x110CD,
}
JOINER = "\u200d"
BLANK = " \u200c\u200d"
SKIN = range(0x1F3FB, 0x1F400)
FLAG_LETTERS = range(0x1F1E6, 0x1F200)
FLAG_TAGS = range(0xE0020, 0xE0080)


def clean_filename(name: str | None) -> str:
    """A file name that can be stored and shown safely."""
    if name and len(name) <= MAX_FILENAME and PLAIN.fullmatch(name):
        return name  # most names; the work below takes 12 µs
    safe = _replace_unsafe(_without_folder(_decode_words(name or "")))
    return _cut(as_seen(safe).strip(BLANK)).strip(BLANK) or "unnamed"


def as_seen(text: str) -> str:
    """Text in NFC with plain spaces and without invisible characters."""
    text = "".join(" " if unicodedata.category(character) == "Zs" else character for character in text)
    return unicodedata.normalize("NFC", text.translate(UNSEEN))


def _replace_unsafe(text: str) -> str:
    """Replace by `?` the characters that cannot be stored or that reorder the text around them."""
    flags = {place for found in FLAG.finditer(text) for place in range(found.start(), found.end())}
    return "".join(
        character if place in flags or _is_safe(character) else "?" for place, character in enumerate(text)
    )


def _is_safe(character: str) -> bool:
    """Whether a character is kept. A character that this Python does not know may be a new emoji."""
    code = ord(character)
    match unicodedata.category(character):
        case "Cf":
            return code in SEEN_FORMAT or code in UNSEEN
        case "Cc" | "Cs" | "Zl" | "Zp":
            return False
        case "Cn":
            return code & 0xFFFE != 0xFFFE and not 0xFDD0 <= code <= 0xFDEF  # never assigned
        case _:
            return True


def _decode_words(name: str) -> str:
    """Decode the encoded words of mail programs: =?utf-8?B?8J+QiC5wbmc=?="""
    try:
        return ENCODED_WORDS.sub(lambda words: str(make_header(decode_header(words[0]))), name)
    except (MessageError, LookupError, ValueError):  # an unknown charset, or text that does not fit it
        return name


def _without_folder(name: str) -> str:
    """The last component of a path.

    A backslash separates folders only after a drive or a server. A slash separates folders, except next to a
    space, as in `cats / dogs.png`.
    """
    if found := WINDOWS_FOLDER.match(name):
        name = name[found.end() :]
    components = name.rstrip("/").split("/")
    return components[-1] if all(part == part.strip() for part in components) else name


def _cut(name: str) -> str:
    """The last 255 characters, which include the file extension; fewer if that would split a visible
    character."""
    start = len(name) - MAX_FILENAME
    while start > 0 and start < len(name) and _continues(name, start):
        start += 1
    return name[start:] if 0 < start < len(name) else name[-MAX_FILENAME:]


def _continues(name: str, place: int) -> bool:
    """Whether the character at `place` is drawn together with the one before it."""
    code = ord(name[place])
    if code in FLAG_LETTERS:  # two letters are a flag
        before = place
        while before > 0 and ord(name[before - 1]) in FLAG_LETTERS:
            before -= 1
        return (place - before) % 2 == 1
    return (
        unicodedata.category(name[place]).startswith("M")
        or code in SKIN
        or code in FLAG_TAGS
        or name[place] == JOINER
        or name[place - 1] == JOINER
    )
