"""The card's figures, on cases small enough to count by hand."""

import numpy as np
import pytest
import torch

from training import evaluate

PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], dtype=np.float32)
LABELS = np.array([0, 1, 1, 0])


def test_accuracy_and_confusion_count_what_was_predicted() -> None:
    assert evaluate.accuracy(PROBABILITIES, LABELS) == 0.75
    assert evaluate.confusion_matrix(PROBABILITIES, LABELS).tolist() == [[2, 0], [1, 1]]


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    sure = np.array([[0.95, 0.05]] * 10, dtype=np.float32)
    assert evaluate.calibration_error(sure, np.array([0] * 5 + [1] * 5)) == pytest.approx(0.45, abs=1e-5)


def test_the_temperature_of_overconfident_logits_is_found() -> None:
    torch.manual_seed(0)
    honest = torch.randn(20_000, 5)
    labels = torch.distributions.Categorical(logits=honest).sample()
    assert evaluate.fit_temperature(honest * 3, labels) == pytest.approx(3, rel=0.05)


def test_six_views_average_shifts_and_mirrors_with_their_weights() -> None:
    images = torch.zeros(1, 4, 4, 1, dtype=torch.uint8)
    images[0, 1, 0, 0] = 8  # in the corner column

    def corner(batch: torch.Tensor) -> torch.Tensor:
        return batch[:, 1, 0, 0].float().unsqueeze(1)

    # As it is: 8, mirrored: 0. Up and left by one: the reflected row and column bring nothing to (1, 0).
    unshifted = (8 + 0) / 2
    assert evaluate.six_views(corner)(images).item() == pytest.approx(unshifted / 2)
