"""Draws a version's pictures: learning curve, confusion matrix, reliability, most confident mistakes."""

import io
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from training.evaluate import Answers
from training.report import Epoch

logger = logging.getLogger(__name__)

INK, BLUE, ORANGE = "#1f2328", "#0969da", "#bc4c00"
DPI = 110
SHEET = (5, 8)  # rows and columns of the sheet of mistakes
LONGEST_NAME = 24  # characters; names of 40 characters leave no room for the confusion matrix
FONT = "DejaVu Sans"  # comes with matplotlib
MORE_FONTS = ("unifont.otf", "unifont_upper.otf")  # of Debian's fonts-unifont: nearly every letter of Unicode


def draw(answers: Answers, classes: Sequence[str], curve: Sequence[Epoch]) -> dict[str, bytes]:
    """PNG files by name: confusion, reliability, mistakes; also learning-curve, unless `curve` is empty."""
    classes = make_drawable(classes)
    figures = {"learning-curve": draw_learning_curve(curve)} if curve else {}
    figures |= {
        "confusion": draw_confusion(answers, classes),
        "reliability": draw_reliability(answers),
        "mistakes": draw_mistakes(answers, classes),
    }
    return {name: _as_png(figure) for name, figure in figures.items()}


def make_drawable(classes: Sequence[str]) -> list[str]:
    """Names to draw: "class <number>" if a letter is in none of the fonts. Long names are shortened."""
    letters: set[int] = set()
    for family in find_fonts():
        letters |= font_manager.get_font(font_manager.findfont(family)).get_charmap().keys()
    drawable = [
        name if letters.issuperset(map(ord, name)) else f"class {number}"
        for number, name in enumerate(classes, 1)
    ]
    if numbered := [f"{d} is {name}" for d, name in zip(drawable, classes, strict=True) if d != name]:
        logger.warning(
            "no font can write the names of some classes; pictures show numbers (install fonts-unifont): %s",
            ", ".join(numbered),
        )
    return [name if len(name) <= LONGEST_NAME else f"{name[:15]}…{name[-8:]}" for name in drawable]


@cache
def find_fonts() -> tuple[str, ...]:
    """The font families to write names in. The first family that has a letter draws it."""
    families = [FONT]
    for path in sorted(font_manager.findSystemFonts()):
        if Path(path).name in MORE_FONTS:
            font_manager.fontManager.addfont(path)
            families.append(font_manager.get_font(path).family_name)
    return tuple(families)


def draw_learning_curve(curve: Sequence[Epoch]) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    epochs = [epoch.number for epoch in curve]
    held_out = [epoch.validation_accuracy for epoch in curve]
    axes.plot(epochs, held_out, "o-", color=BLUE, label="validation accuracy")
    axes.plot(epochs, [e.accuracy for e in curve], "o-", color=ORANGE, label="training accuracy")
    axes.annotate(f"{held_out[-1]:.1%}", (epochs[-1], held_out[-1]), (0, 8), textcoords="offset points",
                  ha="center", color=BLUE)  # fmt: skip
    axes.set(xlabel="epoch", ylabel="accuracy", title="Learning curve", ylim=(None, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def draw_confusion(answers: Answers, classes: Sequence[str]) -> Figure:
    side = min(max(5.0, 0.6 * len(classes) + 1.5), 25.0)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.add_subplot()
    counts = answers.confusion()
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 30:
        for row, column in np.ndindex(counts.shape):
            if counts[row, column]:
                dark = shares[row, column] > 0.5
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8,
                          color="white" if dark else INK)  # fmt: skip
    if len(classes) <= 60:
        ticks = range(len(classes))
        axes.set_xticks(ticks, classes, rotation=45, ha="right", **plain_text())
        axes.set_yticks(ticks, classes, **plain_text())
    axes.set(xlabel="predicted", ylabel="true", title="Confusion of the test images")
    return figure


def draw_reliability(answers: Answers) -> Figure:
    figure = Figure(figsize=(5.5, 6), layout="constrained")
    axes, histogram = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    confidence, accuracy, counts = (np.array(column) for column in zip(*answers.reliability(), strict=True))
    axes.plot([0, 1], [0, 1], "--", color=INK, alpha=0.5, label="perfectly calibrated")
    axes.plot(confidence, accuracy, "o-", color=BLUE, label="this model")
    error = answers.calibration_error()
    axes.set(
        ylabel="accuracy", title=f"Reliability (calibration error {error:.1%})", ylim=(0, 1), xlim=(0, 1)
    )
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    histogram.bar(confidence, counts / counts.sum(), width=1 / 18, color=BLUE)
    histogram.set(xlabel="confidence", ylabel="share of images")
    for part in (axes.yaxis, axes.xaxis, histogram.yaxis):
        part.set_major_formatter(PercentFormatter(1))
    return figure


def draw_mistakes(answers: Answers, classes: Sequence[str]) -> Figure:
    """The wrong answers with the highest confidence, the highest first."""
    wrong = np.flatnonzero(answers.predicted != answers.split.labels)
    surest = wrong[np.argsort(-answers.confidence[wrong], kind="stable")][: SHEET[0] * SHEET[1]]
    figure = Figure(figsize=(1.3 * SHEET[1], 1.65 * SHEET[0] + 0.4), layout="constrained")
    figure.suptitle(f"The most confident of {len(wrong):,} mistakes: predicted, confidence, truth")
    axes = figure.subplots(*SHEET).flat
    for place, index in zip(axes, surest.tolist(), strict=False):
        place.imshow(answers.split.images[index])
        predicted, truth = classes[int(answers.predicted[index])], classes[int(answers.split.labels[index])]
        title = f"{predicted} {answers.confidence[index]:.0%}\n({truth})"
        place.set_title(title, fontsize=8, color=INK, **plain_text())
    for place in figure.axes:
        place.axis("off")
    return figure


def plain_text() -> dict[str, Any]:
    """Text options for names in any script. A $ in a name does not start a formula."""
    return {"parse_math": False, "fontfamily": find_fonts()}


def _as_png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()
