"""A version's pictures can be looked at, whatever the model and the classes are."""

import io

import numpy as np
import pytest
import torch
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
    logits = torch.from_numpy(random.normal(size=(count, classes))).float()
    if right:
        logits[torch.arange(count), torch.from_numpy(labels)] += 100
    return Answers(logits, Split(images, labels))


@pytest.mark.parametrize(("count", "classes"), [(300, 10), (3, 2), (200, 40), (2000, 1000)])
def test_every_version_gets_four_pictures(count: int, classes: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    drawn = pictures.draw(answers(count, classes), names, CURVE)
    assert set(drawn) == {"learning-curve", "confusion", "reliability", "mistakes"}
    for name, png in drawn.items():
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == "PNG", name
            assert min(picture.size) > 300, name


def test_a_class_may_have_any_name() -> None:
    names = ["$%$", "a $b_$", "x^ \\frac", "snow \u2603"]
    assert len(pictures.draw(answers(50, 4), names, CURVE)) == 4


def test_a_model_without_a_mistake_has_a_sheet_that_says_so() -> None:
    figure = pictures.draw_mistakes(answers(20, 2, right=True), ["a", "b"])
    assert "0 mistakes" in figure.get_suptitle()


def test_the_sheet_shows_the_surest_mistakes_first() -> None:
    figure = pictures.draw_mistakes(answers(400, 3), ["a", "b", "c"])
    shares = [int(axes.get_title().split("%")[0].split()[-1]) for axes in figure.axes if axes.get_title()]
    assert len(shares) == 40
    assert shares == sorted(shares, reverse=True)
