"""Publishes a trained network as an artifact: `models/<version>/`.

The files are written to a hidden folder, measured there with ONNX Runtime, and published in one rename.
`docs/model-artifact.md` is the contract.
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from training import evaluate
from training.data import Dataset, Split
from training.evaluate import CUDA, Answers, Engine
from training.export import Calibrated, Served, quantise, write_onnx
from training.model import INPUT_SIZE
from training.outliers import make_test_outliers

FORMAT = "onnx/1"
CARD_FILE, MODEL_FILE, INT8_FILE, CHECK_FILE = "card.json", "model.onnx", "model.int8.onnx", "check.npz"
CHECK_IMAGES = 32
MAX_INT8_LOSS = 0.003  # 0.3 percentage points of accuracy on held-out images
# A tenth of the training images, within these limits, sets temperature and energy threshold.
MIN_HELD_OUT, MAX_HELD_OUT = 20, 2000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all publishing commands share."""
    parser.add_argument("--data", type=Path, help="folder, .tar or .zip with train/ and test/ [CIFAR-10]")
    parser.add_argument("--name", help="name of the data in the card [name of --data]")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where versions are published")
    parser.add_argument("--cache", type=Path, default=Path(".local/data"), help="where data is unpacked")
    parser.add_argument(
        "--activation",
        choices=("better", "always", "never"),
        default="better",
        help="activate the new version `always`, `never`, or if it is `better` [better]",
    )


def hold_out(train: Split, seed: int) -> tuple[Split, Split]:
    """Split training images into held-out ones and the rest."""
    order = np.random.default_rng(seed).permutation(len(train))
    parts = np.split(order, [max(MIN_HELD_OUT, min(MAX_HELD_OUT, len(order) // 10))])
    held_out, rest = (Split(train.images[part], train.labels[part]) for part in parts)
    return held_out, rest


def calibrate(
    net: nn.Module, mean: Sequence[float], std: Sequence[float], held_out: Split, device: torch.device
) -> Served:
    """The model to export. Its temperature is fitted on held-out images."""
    model = Served(Calibrated(net, 1.0), mean, std).to(device).eval()
    logits = evaluate.predict(model.to_logits, held_out.images, device)
    model.calibrated.temperature = evaluate.fit_temperature(logits, held_out.labels)
    return model


@contextmanager
def draft(models: Path) -> Generator[Path]:
    """A hidden folder for the files of an artifact. It is removed unless it is published."""
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=models, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def write_files(
    model: Served, dataset: Dataset, held_out: Split, created: str, folder: Path, seed: int
) -> tuple[dict[str, Any], Answers]:
    """Write and measure the model files; returns their part of the card, and the answers to the test images.

    The test images only measure the model; nothing in it depends on them.
    """
    write_onnx(model, folder / MODEL_FILE, created)
    engine = Engine(folder / MODEL_FILE)
    write_check(engine, held_out, folder / CHECK_FILE)
    rejected = write_int8(engine, held_out, folder)
    answers = engine.answer(dataset.test)
    uploaded = Split(evaluate.as_uploaded(dataset.test.images), dataset.test.labels)
    float32 = measure(folder / MODEL_FILE, answers, engine.answer(uploaded))
    files = {MODEL_FILE: float32}
    if not rejected:
        int8 = Engine(folder / INT8_FILE)
        files[INT8_FILE] = measure(folder / INT8_FILE, int8.answer(dataset.test), int8.answer(uploaded))
    confusion = answers.confusion()
    class_accuracy = confusion.diagonal() / np.maximum(1, confusion.sum(1))
    card = {
        "created": created,
        "classes": dataset.classes,
        "input_size": INPUT_SIZE,
        "parameters": sum(p.numel() for p in model.parameters()),
        "temperature": float(f"{model.calibrated.temperature:.4g}"),
        **{name: float32[name] for name in ("accuracy", "accuracy_after_upload", "calibration_error")},
        "class_accuracy": dict(zip(dataset.classes, class_accuracy.round(4).tolist(), strict=True)),
        "confusion": confusion.tolist(),
        "files": files,
        "int8_rejected": rejected,
        "unfamiliar": judge_unfamiliar(engine, held_out, dataset.test, seed),
        "data": {
            "name": dataset.name,
            "train_images": len(dataset.train),
            "held_out": len(held_out),
            "test_images": len(dataset.test),
            "left_out": [asdict(note) for note in dataset.left_out],
            "sha256": dataset.fingerprint(),
            "test_sha256": dataset.fingerprint(dataset.test),  # models with the same value can be compared
        },
    }
    return card, answers


def write_check(engine: Engine, held_out: Split, path: Path) -> None:
    """Write reference images and their answers; an inference worker must compute nearly the same answers."""
    images = held_out.images[:CHECK_IMAGES]
    probabilities, energy = engine(images)
    np.savez_compressed(path, images=images, probabilities=probabilities, energy=energy)


def write_int8(engine: Engine, held_out: Split, folder: Path) -> str | None:
    """Write the int8 model. If it loses too much accuracy on held-out images, delete it and return why."""
    path = folder / INT8_FILE
    quantise(folder / MODEL_FILE, path, held_out.images)
    loss = engine.answer(held_out).accuracy() - Engine(path).answer(held_out).accuracy()
    if loss <= MAX_INT8_LOSS:
        return None
    path.unlink()
    return f"Its accuracy on the held-out images is {100 * loss:.1f} points lower than that of float32."


def measure(path: Path, test: Answers, uploaded: Answers) -> dict[str, Any]:
    """One model file's identity, accuracy and cost, for the card."""
    content = path.read_bytes()
    figures = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "accuracy": round(test.accuracy(), 4),
        "accuracy_after_upload": round(uploaded.accuracy(), 4),
        "calibration_error": round(test.calibration_error(), 4),
        "cpu_ms_per_image": Engine(path, threads=1).measure_cost(),
    }
    if path.name == MODEL_FILE and CUDA in onnxruntime.get_available_providers():
        engine = Engine(path, provider=CUDA)
        if engine.provider == CUDA:
            figures["gpu_ms_per_image"] = engine.measure_cost()
    return figures


def judge_unfamiliar(engine: Engine, held_out: Split, test: Split, seed: int) -> dict[str, Any]:
    """The energy above which an image is unfamiliar, and the share of each kind of images above it."""
    threshold = evaluate.fit_energy_threshold(engine(held_out.images)[1])

    def share_above(images: evaluate.Images) -> float:
        return round(float((engine(images)[1] > threshold).mean()), 4)

    outliers = make_test_outliers(test.images, seed)
    return {
        "energy_threshold": round(threshold, 4),
        "flagged_test": share_above(test.images),
        "detected": {kind: share_above(images) for kind, images in outliers.items()},
    }


def publish(folder: Path, card: Mapping[str, Any], pictures: Mapping[str, bytes], models: Path) -> Path:
    """Publish a draft in one rename; returns the artifact's folder.

    The version is the day and the first eight digits of the SHA-256 of `model.onnx`. If a run is killed after
    it published a folder and before it reported the version, its next attempt has the same `created` (the
    time when the last epoch ended), and this function returns that folder.
    """
    if artifact := _find_published(models, card["created"]):
        return artifact
    version = f"{card['created'][:10]}-{card['files'][MODEL_FILE]['sha256'][:8]}"
    card = {"version": version, "format": FORMAT, **card}
    (folder / CARD_FILE).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    for name, png in pictures.items():
        (folder / f"{name}.png").write_bytes(png)
    folder.chmod(0o755)  # inference workers may run as another user
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder.rename(models / version)


def _find_published(models: Path, created: str) -> Path | None:
    for file in models.glob(f"{created[:10]}-*/{CARD_FILE}"):
        with suppress(OSError):  # the file may belong to another user
            if file.is_file() and f'"created": "{created}"' in file.read_text(errors="replace"):
                return file.parent
    return None
