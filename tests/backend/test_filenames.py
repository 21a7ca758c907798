"""A client's file name becomes one that can be stored and shown."""

import pytest

from backend.filenames import clean_filename


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("cat.png", "cat.png"),
        (None, "unnamed"),
        ("  ", "unnamed"),
        ("a\x00b\n.png", "a?b?.png"),
        ("x" * 300 + ".png", "x" * 251 + ".png"),
        ("\udcff.png", "?.png"),
    ],
)
def test_a_file_name_is_made_safe_to_store(given: str | None, kept: str) -> None:
    assert clean_filename(given) == kept
