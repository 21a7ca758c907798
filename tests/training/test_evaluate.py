"""The card's figures, in small cases whose result is known."""

import numpy as np
import pytest
import torch
from PIL import Image

from images.decode import decode
from tests.images.files import encode
from training import evaluate
from training.data import Split
from training.evaluate import Answers


def answers(probabilities: list[list[float]], labels: list[int]) -> Answers:
    images = np.zeros((len(labels), 32, 32, 3), dtype=np.uint8)
    return Answers(np.array(probabilities, np.float32), Split(images, np.array(labels)))


FOUR = answers([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], [0, 1, 1, 0])


def test_accuracy_and_confusion_count_what_was_predicted() -> None:
    assert FOUR.accuracy() == 0.75
    assert FOUR.confusion().tolist() == [[2, 0], [1, 1]]


def test_the_calibration_error_is_the_mean_difference_of_confidence_and_accuracy() -> None:
    sure = answers([[0.95, 0.05]] * 10, [0] * 5 + [1] * 5)
    assert sure.calibration_error() == pytest.approx(0.45, abs=1e-5)
    assert sure.reliability() == [(pytest.approx(0.95), 0.5, 10)]


def test_the_temperature_of_overconfident_logits_is_found() -> None:
    torch.manual_seed(0)
    calibrated = torch.randn(20_000, 5)
    labels = torch.distributions.Categorical(logits=calibrated).sample().numpy()
    assert evaluate.fit_temperature(calibrated * 3, labels) == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_temperature_of_a_model_without_a_mistake_is_not_zero(classes: int) -> None:
    labels = np.arange(200) % classes
    logits = torch.nn.functional.one_hot(torch.from_numpy(labels), classes).float()
    temperature = evaluate.fit_temperature(logits, labels)
    assert 0.01 < temperature < 1
    assert (logits / temperature).softmax(1).max() < 0.9999


def test_six_views_average_shifts_and_mirrors_with_their_weights() -> None:
    images = torch.zeros(1, 4, 4, 1, dtype=torch.uint8)
    images[0, 1, 0, 0] = 8  # in the first column

    def read_pixel(batch: torch.Tensor) -> torch.Tensor:
        return batch[:, 1, 0, 0].float().unsqueeze(1)

    # At row 1, column 0, the unshifted view shows 8 and its mirror image 0. All shifted views show 0 there.
    unshifted = (8 + 0) / 2
    assert evaluate.six_views(read_pixel)(images).item() == pytest.approx(unshifted / 2)

    # Only the reflected border of `moved_down_right` brings the pixel at row 0, column 1 to row 1, column 0.
    images[0, 1, 0, 0], images[0, 0, 1, 0] = 0, 8
    assert evaluate.six_views(read_pixel)(images).item() == pytest.approx((8 + 0) / 2 / 4)

    everywhere = torch.full((1, 4, 4, 1), 8, dtype=torch.uint8)
    assert evaluate.six_views(read_pixel)(everywhere).item() == pytest.approx(8)


def test_2_percent_of_the_images_have_an_energy_above_the_threshold() -> None:
    spread = np.arange(100, dtype=np.float32)
    assert (spread > evaluate.fit_energy_threshold(spread)).sum() == 2


def test_images_as_uploaded_are_decoded_by_the_decoder_of_uploads() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    for image, uploaded in zip(images, evaluate.as_uploaded(images), strict=True):
        photo = Image.fromarray(image).resize((480, 480), Image.Resampling.BICUBIC)
        assert uploaded.tobytes() == decode(encode(photo, "JPEG", quality=60), max_pixels=480 * 480)
