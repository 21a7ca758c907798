"""File names from clients: the last component of a path, cleaned and cut to 255 characters."""

import unicodedata
from email.errors import MessageError
from email.header import decode_header, make_header

import regex

MAX_FILENAME = 255  # characters
# RFC 2047. White space between two encoded words is dropped.
ENCODED_WORD = r"=\?[^?\s]+\?(?:b\?[a-z0-9+/]*=*|q\?[^?]*)\?="
ENCODED_WORDS = regex.compile(rf"{ENCODED_WORD}(?:\s+{ENCODED_WORD})*", regex.IGNORECASE | regex.ASCII)
WINDOWS_FOLDER = regex.compile(r"(?:[A-Za-z]:|\\)\\.*\\|[A-Za-z]:\\")  # C:\fakepath\, \\server\share\
SPACE = regex.compile(r"\p{Zs}")
# Invisible characters that are removed: soft hyphen, direction marks, zero-width spaces,
# invisible operators.
UNSEEN = regex.compile(r"[\xad\u061c\u200b\u200e\u200f\u2060-\u2064\ufeff]")
# Characters that are replaced: controls, separators of lines, surrogates, noncharacters, and format
# characters (Cf), some of which reorder text. Format characters with a visible effect are kept: joiners,
# signs that enclose numbers, the Mongolian vowel separator, and the tags of a flag (Scotland, Wales).
UNSAFE = regex.compile(
    r"""
    \U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]+\U000e007f(*SKIP)(*FAIL)
    | [\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Noncharacter_Code_Point}]
    | [\p{Cf}--[\p{Prepended_Concatenation_Mark}\u180e\u200c\u200d]]
    """,
    regex.VERBOSE | regex.VERSION1,
)
GRAPHEME = regex.compile(r"\X")  # one visible character
BLANK = " \u200c\u200d"


def clean_filename(name: str | None) -> str:
    """A file name that can be stored and shown safely."""
    safe = UNSAFE.sub("?", as_seen(_without_folder(_decode_words(name or ""))))
    return _cut(safe.strip(BLANK)).strip(BLANK) or "unnamed"


def as_seen(text: str) -> str:
    """Text in NFC with plain spaces and without the characters of UNSEEN."""
    return unicodedata.normalize("NFC", UNSEEN.sub("", SPACE.sub(" ", text)))


def _decode_words(name: str) -> str:
    """Decode the encoded words of mail programs: =?utf-8?B?8J+QiC5wbmc=?="""
    try:
        return ENCODED_WORDS.sub(lambda words: str(make_header(decode_header(words[0]))), name)
    except (MessageError, LookupError, ValueError):  # an unknown charset, or text that does not fit it
        return name


def _without_folder(name: str) -> str:
    """The last component of a path.

    A backslash separates folders only after a drive or a server. If any component begins or ends with white
    space, as in `cats / dogs.png`, no slash separates folders.
    """
    if found := WINDOWS_FOLDER.match(name):
        name = name[found.end() :]
    components = name.rstrip("/").split("/")
    return components[-1] if all(part == part.strip() for part in components) else name


def _cut(name: str) -> str:
    """The last 255 characters, which include the file extension; fewer if 255 would split a visible
    character. If the last visible character is longer than 255, it is split."""
    name = name[-4 * MAX_FILENAME :]  # saves time: finding the graphemes of 2,000 flag emoji takes 40 ms
    start = len(name) - MAX_FILENAME
    starts = (found.start() for found in GRAPHEME.finditer(name))
    return name[next((place for place in starts if place >= start), start) :]
