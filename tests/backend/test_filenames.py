"""File names of clients become safe to store and show."""

import unicodedata

import pytest

from backend.filenames import clean_filename

FAMILY, SCOTLAND, GERMANY = "👨‍👩‍👧", "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "🇩🇪"
SPACES = [chr(code) for code in range(0x11000) if unicodedata.category(chr(code)) == "Zs"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("cat.png", "cat.png"),
        (None, "unnamed"),
        ("  ", "unnamed"),
        ("\u200d", "unnamed"),
        ("a\x00b\n.png", "a?b?.png"),
        ("a\x7f\x85\u2028.png", "a???.png"),
        ("x" * 300 + ".png", "x" * 251 + ".png"),
        ("\udcff.png", "?.png"),
        ("\ufffe\ufdd0.png", "??.png"),
        ("e\u202egnp.exe", "e?gnp.exe"),
        ("\u2066a\u2069.png", "?a?.png"),
        ("a\U000e0041b.png", "a?b.png"),  # an invisible letter
    ],
)
def test_a_file_name_is_made_safe_to_store(given: str | None, kept: str) -> None:
    assert clean_filename(given) == kept


@pytest.mark.parametrize("space", SPACES)
def test_every_kind_of_space_becomes_a_plain_space_and_is_removed_at_the_end(space: str) -> None:
    assert clean_filename(f"10.00{space}AM.png{space}") == "10.00 AM.png"


@pytest.mark.parametrize(
    "name",
    [
        "IMG_0001.JPG",
        "a b-c.tar.gz",
        "..",
        "Кошка 🐈.png",
        "می‌خواهم.png",  # with a non-joiner, which separates letters
        f"{FAMILY}.png",
        f"{SCOTLAND}.png",
        "❤️.png",
        "👋🏽.png",
        "क्‍ष.png",
        "\U0001fae8.png",  # an emoji that Python 3.11 does not know
        "\uf8ff.png",  # a private-use character, Apple's logo
        "a\\b.png",
        "100%.png",
        "cats / dogs.png",
        # These look like encoded words of mail programs (RFC 2047), but cannot be decoded.
        "=?.png",
        "=?utf-8?B?broken?=",
        "=?utf-8?B?!!!?=.png",
        "=?utf-8?B?S8O?=.png",
        "=?no-such-charset?Q?a?=",
        "=?ÿ?Q?a?=",
        "=?undefined?Q?a?=",
    ],
)
def test_a_harmless_name_is_unchanged(name: str) -> None:
    assert clean_filename(name) == name


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Ka\u0308tzchen.png", "Kätzchen.png"),
        ("\u200eIMG-20260101-WA0001.jpg", "IMG-20260101-WA0001.jpg"),
        ("co\u00adop\u200b\ufeff.png", "coop.png"),
        ("C:\\fakepath\\cat.png", "cat.png"),
        ("c:\\cat.png", "cat.png"),
        ("\\\\server\\share\\my cats\\cat.png", "cat.png"),
        ("a/b/cat.png", "cat.png"),
        ("../../etc/cat.png", "cat.png"),
        ("pets/", "pets"),
        ("/", "unnamed"),
    ],
)
def test_folders_and_invisible_characters_are_removed_and_accents_are_composed(given: str, kept: str) -> None:
    assert clean_filename(given) == kept


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("=?utf-8?B?S8OkdHpjaGVuLnBuZw==?=", "Kätzchen.png"),
        ("=?UTF-8?q?K=C3=A4tzchen_1.png?=", "Kätzchen 1.png"),
        ("=?iso-8859-1?Q?K=E4tzchen=2Epng?=", "Kätzchen.png"),
        ("=?utf-8?B?S8Ok?= =?utf-8?B?dHpjaGVuLnBuZw==?=", "Kätzchen.png"),
        ("=?utf-8?Q?caf=C3=A9?=.png", "café.png"),
        ("猫=?utf-8?Q?_caf=C3=A9?=_=?iso-8859-1?q?=E9?= =?utf-8?q?=C3=A9?= 1.png", "猫 café_éé 1.png"),
        ("=?utf-8?B?AGEucG5n?=", "?a.png"),
    ],
)
def test_an_encoded_name_is_decoded(given: str, kept: str) -> None:
    assert clean_filename(given) == kept


@pytest.mark.parametrize("unit", [FAMILY, SCOTLAND, GERMANY, "👋🏽", "❤️", "q\u0301", "e\u0301", "猫"])
@pytest.mark.parametrize("start", ["", "x", "xy"])
def test_a_long_name_loses_whole_characters_at_its_start(unit: str, start: str) -> None:
    name = clean_filename(start + 300 * unit + ".jpeg")
    stem = name.removesuffix(".jpeg")
    unit = unicodedata.normalize("NFC", unit)
    assert 255 - len(unit) < len(name) <= 255
    assert stem == len(stem) // len(unit) * unit


def test_a_character_with_too_many_marks_is_cut() -> None:
    assert len(clean_filename("a" + "\u0316" * 400)) == 255
