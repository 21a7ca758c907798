"""Decides which files of a data set are images, and notes which files are left out and why."""

import mimetypes
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from images import decode
from images.errors import ImageError, UnknownFormat
from images.formats import ENDINGS
from training.errors import DataError

FORMATS = (*decode.FORMATS, "PPM")  # some data sets are published as PPM files
MAX_IMAGE_PIXELS = 100_000_000
MAX_FILE_BYTES = 1 << 29  # a whole file is held in memory; 100 megapixels of 32 bits take 400 MB
EXAMPLES, UNREADABLE_EXAMPLES = 3, 100  # more unreadable images are named, because people have to repair them
EXAMPLE_CHARACTERS = 200

# Names, in lower case, of files and folders that programs put next to images. `is_system` adds patterns.
SYSTEM_NAMES = {
    "__macosx", "icon\r", "network trash folder", "temporary items",  # macOS
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler", "recycled",
    "system volume information", "found.000",  # Windows
    "lost+found", "__pycache__",  # Linux, Python
    "#recycle", "#snapshot", "zbthumbnail.info", "pspbrwse.jbf",  # network drives, picture viewers
}  # fmt: skip

SYSTEM = "system files and folders"
OUTSIDE = "not in a folder of a class"
CIRCLE = "links to a folder that contains the link"
SPECIAL = "neither files nor folders"
NO_IMAGE = f"not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
UNREADABLE = "unreadable images"


@dataclass(frozen=True)
class LeftOut:
    """How many files or folders were left out for one reason, and examples of them."""

    reason: str
    count: int
    examples: list[str]

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        return f"{self.reason}: {self.count:,} ({', '.join(self.examples)}{more})"


class Sieve:
    """Lists the images of the data set at `root`, and notes what it leaves out."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._notes: dict[str, list[str]] = defaultdict(list)

    @property
    def left_out(self) -> list[LeftOut]:
        """One entry for each reason, the most frequent reason first."""
        notes = sorted(self._notes.items(), key=lambda note: (-len(note[1]), note[0]))
        return [
            LeftOut(reason, len(paths), paths[: UNREADABLE_EXAMPLES if reason == UNREADABLE else EXAMPLES])
            for reason, paths in notes
        ]

    @property
    def unreadable(self) -> list[str]:
        """The unreadable images, each with its reason."""
        return self._notes.get(UNREADABLE, [])

    def list_classes(self, part: Path) -> dict[str, list[Path]]:
        """The folders of each class, by the name of the class. Raises DataError if there is no class.

        `part` is the folder train/ or test/. macOS may store a letter and its accent as two characters (NFD),
        other systems as one (NFC). Both names are the same class.
        """
        classes: dict[str, list[Path]] = defaultdict(list)
        for entry in self._list(part) if part.is_dir() else ():
            if entry.is_dir():
                classes[_normalise(entry.name)].append(entry)
            else:
                self._leave_out(OUTSIDE, entry)
        if not classes:
            advice = (
                "Move about a tenth of each class there" if part.name == "test" else "Put the images there"
            )
            raise DataError(f"{part} must exist and hold one folder of images for each class. {advice}.")
        return dict(sorted(classes.items()))

    def list_files(self, folder: Path) -> list[Path]:
        """The regular files and broken links below `folder`, without system files, in a fixed order.

        Raises DataError.
        """
        files = self._walk(folder, frozenset(parent.resolve() for parent in folder.absolute().parents))
        return sorted(files, key=lambda file: (_normalise(str(file.parent)), _normalise(file.name)))

    def read_pixels(self, file: Path) -> bytes | None:
        """The pixels, decoded as in the backend. Notes a file that cannot be decoded, and returns None."""
        try:
            return decode.decode(_read(file), MAX_IMAGE_PIXELS, FORMATS)
        except ImageError as error:
            if _is_meant_as_image(file, error):
                self._leave_out(UNREADABLE, file, f" ({error})")
            else:
                self._leave_out(NO_IMAGE, file)
        except OSError as error:
            self._leave_out(UNREADABLE, file, f" ({error.strerror})")
        return None

    def _walk(self, folder: Path, above: frozenset[Path]) -> Iterator[Path]:
        """The files below `folder`. Follows links, but not into a folder that contains the link."""
        here = folder.resolve()
        if here in above:
            self._leave_out(CIRCLE, folder)
            return
        for path in self._list(folder):
            if path.is_dir():
                yield from self._walk(path, above | {here})
            elif path.is_file() or path.is_symlink():  # a broken link counts as an unreadable image
                yield path
            else:
                self._leave_out(SPECIAL, path)

    def _list(self, folder: Path) -> list[Path]:
        """The folder's entries without system files. Raises DataError."""
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise DataError(f"{folder} cannot be read ({error.strerror}). Make it readable.") from error
        for entry in entries:
            if is_system(entry.name):
                self._leave_out(SYSTEM, entry)
        return [entry for entry in entries if not is_system(entry.name)]

    def _leave_out(self, reason: str, path: Path, detail: str = "") -> None:
        slash = "/" if path.is_dir() else ""
        self._notes[reason].append(f"{_show(path.relative_to(self._root))}{slash}{detail}")


def is_system(name: str) -> bool:
    """Whether operating systems or programs put files or folders of this name next to images."""
    return name.startswith((".", "@")) or name.endswith("~") or name.lower() in SYSTEM_NAMES


def _read(file: Path) -> bytes:
    """The file's content. Raises OSError; raises ImageError if the file is empty or too large."""
    size = file.stat().st_size
    if size == 0:
        raise UnknownFormat("The file is empty.")
    if size > MAX_FILE_BYTES:
        raise UnknownFormat(f"The file is larger than {MAX_FILE_BYTES >> 20} MiB.")
    return file.read_bytes()


def _normalise(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _show(path: Path) -> str:
    """A path that can be printed and stored: its last 200 characters, unprintable ones replaced."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in str(path))
    return text if len(text) <= EXAMPLE_CHARACTERS else f"…{text[-EXAMPLE_CHARACTERS:]}"


def _is_meant_as_image(file: Path, error: ImageError) -> bool:
    """Whether a file that cannot be decoded counts as an unreadable image.

    A file with one of ENDINGS counts. A file with an unknown ending counts if it was recognised as one
    of FORMATS. A file with another type's ending does not count, because a text may begin with "BM" or "P1".
    """
    if file.suffix.lower() in ENDINGS:
        return True
    return not isinstance(error, UnknownFormat) and mimetypes.guess_type(file.name)[0] is None
