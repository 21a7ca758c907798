"""A version is loaded onto the available device. A fallback is logged and reported."""

import gc
import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference import classifier
from inference.artifact import Check
from inference.classifier import Loader
from inference.engine import CPU, Answers, Engine
from inference.errors import ArtifactError
from tests.inference.artifacts import CLASSES, make_model, make_tensors, make_weights, publish

# A model whose answers are near those of `check.npz`, and one whose answers are far from them.
NEAR = make_model(tensors=make_tensors(make_weights() * np.float32(1.02)))
FAR = make_model(tensors=make_tensors(-make_weights()))


@pytest.fixture
def loader() -> Loader:
    return Loader(cpu_threads=1, max_batch_size=4)


def test_the_answers_are_those_of_the_model_in_the_order_of_the_images(
    loader: Loader, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    probabilities, energies = loader.load(publish(tmp_path))([image.tobytes() for image in images])
    logits = images.mean((1, 2)) / 64 @ make_weights()
    exponents = np.exp(logits)
    np.testing.assert_allclose(probabilities, exponents / exponents.sum(1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(energies, -np.log(exponents.sum(1)), atol=1e-4)


def test_a_loaded_model_has_the_classes_of_its_card(loader: Loader, tmp_path: Path) -> None:
    loaded = loader.load(publish(tmp_path))
    assert (loaded.version, loaded.classes) == ("v1", CLASSES)


def test_an_image_is_unfamiliar_above_the_card_s_threshold(loader: Loader, tmp_path: Path) -> None:
    strict = loader.load(publish(tmp_path, "v1", unfamiliar={"energy_threshold": -3}))
    assert (strict.is_unfamiliar(-2.9), strict.is_unfamiliar(-3.1)) == (True, False)
    assert loader.load(publish(tmp_path, "v2")).is_unfamiliar(100) is None  # its card has no threshold


def test_a_cpu_serves_the_int8_model_if_there_is_one(loader: Loader, tmp_path: Path) -> None:
    assert "float32" in loader.load(publish(tmp_path, "v1")).device_name
    served = loader.load(publish(tmp_path, "v2", int8=NEAR))
    assert "int8" in served.device_name
    assert served.fallback == ""
    image = bytes(range(256)) * 12
    expected = loader.load(publish(tmp_path, "v3", model=NEAR, int8=None))
    np.testing.assert_array_equal(served([image])[0], expected([image])[0])


@pytest.mark.parametrize("int8", [FAR, b"not a model"], ids=["disagrees", "broken"])
def test_an_int8_model_that_fails_on_this_cpu_falls_back_to_float32_with_a_reason(
    int8: bytes, loader: Loader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = loader.load(publish(tmp_path, int8=int8))
    assert "float32" in served.device_name
    assert served.fallback.startswith("int8 failed")
    assert "int8 of v1 cannot be served, float32 is served instead" in caplog.text


def test_a_damaged_int8_file_falls_back_to_float32_with_a_reason(loader: Loader, tmp_path: Path) -> None:
    folder = publish(tmp_path, int8=NEAR)
    (folder / "model.int8.onnx").write_bytes(NEAR[:-100])
    served = loader.load(folder)
    assert "float32" in served.device_name
    assert "SHA-256 differs" in served.fallback


def test_a_damaged_int8_file_leaves_no_reference_images_in_memory(
    loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = publish(tmp_path, int8=NEAR)
    (folder / "model.int8.onnx").write_bytes(b"damaged")
    monkeypatch.setattr(classifier.logger, "disabled", True)  # pytest's log capture keeps errors

    def count_checks() -> int:
        return sum(type(found) is Check for found in gc.get_objects())

    gc.collect()
    before = count_checks()
    gc.disable()
    try:
        loader.load(folder)
        assert count_checks() == before
    finally:
        gc.enable()


def test_a_gpu_that_fails_falls_back_to_the_cpu_and_logs_an_error(
    loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(classifier, "has_cuda", lambda: True)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        served = loader.load(publish(tmp_path, int8=NEAR))
    assert "CPU" in served.device_name
    assert served.fallback.startswith("CUDA failed")
    (said,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "the GPU cannot serve v1" in said.getMessage()


def test_a_gpu_without_memory_for_a_full_batch_falls_back_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(cpu_threads=1, max_batch_size=16)  # more than the 4 reference images
    run, engines = Engine.__call__, list[Engine]()

    def run_small_batches(engine: Engine, images: NDArray[np.uint8]) -> Answers:
        engines.append(engine)
        if engine is engines[0] and len(images) == loader.max_batch_size:
            raise RuntimeError("out of memory")
        return run(engine, images)

    monkeypatch.setattr(classifier, "has_cuda", lambda: True)
    monkeypatch.setattr(classifier, "name_gpu", lambda: "GPU")
    monkeypatch.setattr(classifier, "CUDA", CPU)  # the first engine stands in for a GPU's
    monkeypatch.setattr(Engine, "__call__", run_small_batches)
    served = loader.load(publish(tmp_path))
    assert "CPU" in served.device_name
    assert served.fallback == "CUDA failed: out of memory"


def test_a_worker_tries_a_model_once(loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(classifier, "try_model", lambda _content, precision, *_: tried.append(precision))
    folder = publish(tmp_path, int8=NEAR)
    loader.verify(folder)
    loader.load(folder)
    loader.load(folder)
    assert tried == ["float32", "int8"]


def test_a_refusal_names_the_precision_of_the_model(loader: Loader, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the float32 model cannot be served: its answers differ"):
        loader.load(publish(tmp_path, model=FAR))
