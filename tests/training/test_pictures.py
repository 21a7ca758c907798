"""A version's pictures, for any number of classes and any names."""

import io
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from training import pictures
from training.data import Split
from training.evaluate import Answers
from training.report import Epoch

CURVE = [Epoch(number, 1 / number, 0.5, 0.4 + number / 100, 0.1, 1000.0, 5.0) for number in (1, 2, 3)]


def answers(count: int, classes: int, *, right: bool = False) -> Answers:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes))
    if right:
        logits[np.arange(count), labels] += 100
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = (exponentials / exponentials.sum(1, keepdims=True)).astype(np.float32)
    return Answers(probabilities, Split(images, labels))


@pytest.mark.parametrize(("count", "classes"), [(300, 10), (3, 2), (200, 40), (2000, 1000)])
def test_four_pictures_are_drawn_for_any_number_of_classes(count: int, classes: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    drawn = pictures.draw(answers(count, classes), names, CURVE)
    assert set(drawn) == {"learning-curve", "confusion", "reliability", "mistakes"}
    for name, png in drawn.items():
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == "PNG", name
            assert min(picture.size) > 300, name


NAMES = [
    "$%$", "a $b_$", "x^ \\frac", "snow \u2603", "x_{y}^2",
    "$\\frac{", "\u0440\u043e\u0437\u0430", "\u0642\u0637\u0629",
    "\u732b", "\u0e41\u0e21\u0e27", "dog \U0001f415",
]  # fmt: skip


def test_a_class_may_have_any_name() -> None:
    assert len(pictures.draw(answers(50, len(NAMES)), NAMES, CURVE)) == 4


def test_a_long_name_is_shortened_in_the_middle() -> None:
    names = ["x" * 100, "Dactylorhiza fuchsii subsp. okellyi"]
    assert pictures.make_drawable(names)[1] == "Dactylorhiza fu… okellyi"
    # If there were no room, the layout would warn, and a warning fails the test.
    assert len(pictures.draw(answers(50, 2), names, CURVE)) == 4


def write_font(path: Path, family: str, letters: str) -> None:
    """A font whose letters are all squares."""
    square = TTGlyphPen(None)
    square.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        square.lineTo(corner)
    square.closePath()
    glyphs = [".notdef", *(f"u{ord(letter):X}" for letter in letters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(glyphs)
    font.setupCharacterMap({ord(letter): f"u{ord(letter):X}" for letter in letters})
    font.setupGlyf(dict.fromkeys(glyphs, square.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(glyphs, (800, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": family, "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> Generator[list[str]]:
    """The list of font files that matplotlib finds on the system. It is empty until the test adds files."""
    files: list[str] = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: files)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    pictures.find_fonts.cache_clear()
    yield files
    pictures.find_fonts.cache_clear()


def read_ticks(names: list[str]) -> list[str]:
    drawn = pictures.make_drawable(names)
    axes = pictures.draw_confusion(answers(50, len(names)), drawn).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == drawn
    return drawn


def test_a_name_that_no_font_can_write_becomes_a_number_with_a_warning(
    fonts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert fonts == []
    assert read_ticks(NAMES) == [*NAMES[:8], "class 9", "class 10", "class 11"]
    assert len(pictures.draw(answers(50, len(NAMES)), NAMES, CURVE)) == 4
    assert "class 9 is \u732b, class 10 is \u0e41\u0e21\u0e27, class 11 is dog \U0001f415" in caplog.text


def test_letters_that_one_font_lacks_are_taken_from_another(
    fonts: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, family, letters in (
        ("unifont.otf", "Two Scripts", "\u732b\u0e41\u0e21\u0e27"),
        ("unifont_upper.otf", "Dogs", "\U0001f415"),
        ("other.otf", "Never used", "\u732b"),
    ):
        write_font(tmp_path / name, family, letters)
        fonts.append(str(tmp_path / name))
    assert read_ticks(NAMES) == NAMES
    assert pictures.find_fonts() == ("DejaVu Sans", "Two Scripts", "Dogs")
    # A missing glyph would cause a warning, and a warning fails the test.
    assert len(pictures.draw(answers(50, len(NAMES)), NAMES, CURVE)) == 4
    assert caplog.text == ""


def test_a_dollar_and_a_backslash_in_a_name_start_no_formula() -> None:
    figure = pictures.draw_mistakes(answers(50, 2), ["$x_1$", "\\alpha"])
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    assert titles and not any(title.get_parse_math() for title in titles)


def test_the_sheet_of_a_model_without_a_mistake_counts_0_mistakes() -> None:
    figure = pictures.draw_mistakes(answers(20, 2, right=True), ["a", "b"])
    assert "of 0 mistakes" in figure.get_suptitle()


def test_the_sheet_shows_the_most_confident_mistakes_first() -> None:
    figure = pictures.draw_mistakes(answers(400, 3), ["a", "b", "c"])
    percents = [int(axes.get_title().split("%")[0].split()[-1]) for axes in figure.axes if axes.get_title()]
    assert len(percents) == 40
    assert percents == sorted(percents, reverse=True)
