"""The names that clients give their files."""

MAX_FILENAME = 255


def clean_filename(name: str | None) -> str:
    """A file name that every part of the system can store and show."""
    printable = "".join(c if c.isprintable() else "?" for c in name or "")
    printable = printable.encode("utf-8", "replace").decode()
    return printable.strip()[-MAX_FILENAME:] or "unnamed"
