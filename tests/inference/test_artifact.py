"""An artifact is refused, in words, before it can do harm."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from inference import artifact, classifier
from inference.errors import ArtifactError
from inference.layers import Builder, check_cost
from scripts.local.config import REPOSITORY
from tests.inference.artifacts import CLASSES, LAYERS, encode, make_tensors, publish

CPU = torch.device("cpu")
IMAGE = (32, 32, 3)


def refuse(folder: Path, words: str) -> None:
    with pytest.raises(ArtifactError, match=words) as refusal:
        classifier.load(folder, CPU)
    assert len(str(refusal.value)) < 500
    assert str(folder) not in str(refusal.value)  # it is shown to whoever asks


def test_a_residual_layer_adds_its_input_to_its_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "has_fast_bfloat16", lambda _: False)
    images = np.random.default_rng(0).integers(0, 256, (5, *IMAGE), dtype=np.uint8)
    probabilities, energies = classifier.load(publish(tmp_path), CPU)([image.tobytes() for image in images])
    t = make_tensors()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 64 - 2
    x = F.conv2d(x, t["1.weight"], t["1.bias"], padding=1)
    x = x + F.gelu(F.conv2d(x, t["2.0.weight"], t["2.0.bias"], padding=1))
    logits = F.max_pool2d(x, 8).flatten(1) @ t["5.weight"].T
    np.testing.assert_allclose(probabilities, logits.softmax(1), atol=1e-5)
    np.testing.assert_allclose(energies, -logits.logsumexp(1), atol=1e-4)


def test_an_image_is_unfamiliar_above_the_card_s_threshold(tmp_path: Path) -> None:
    strict = classifier.load(publish(tmp_path, "v1", unfamiliar={"energy_threshold": -3}), CPU)
    assert (strict.is_unfamiliar(-2.9), strict.is_unfamiliar(-3.1)) == (True, False)
    assert classifier.load(publish(tmp_path, "v2"), CPU).is_unfamiliar(100) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": "v2"}, "version of the card"),
        ({"format": "layers/1"}, "'layers/1'.*'layers/2'"),
        ({"format": {}}, "format"),
        ({"sha256": "0" * 64}, "SHA-256 differs"),
        ({"sha256": 1}, "sha256"),
        ({"classes": []}, "classes of the card"),
        ({"classes": None}, "classes of the card"),
        ({"classes": "cat"}, "classes of the card"),
        ({"classes": ["cat", "cat", "dog"]}, "classes of the card"),
        ({"classes": ["cat", " ", "dog"]}, "classes of the card"),
        ({"classes": ["cat", "nul\0", "dog"]}, "classes of the card"),
        ({"classes": ["cat", "\ud800", "dog"]}, "classes of the card"),
        ({"classes": ["cat", "x" * 101, "dog"]}, "classes of the card"),
        ({"classes": ["cat", 7, "dog"]}, "classes of the card"),
        ({"classes": [f"{n}" for n in range(1001)]}, "classes of the card"),
        ({"classes": ["cat", "dog"]}, r"\(3,\).*not \(2,\)"),
        ({"input_size": 64}, "input_size of the card is 64; it must be 32"),
        ({"activation": "sometimes"}, "better, always or never"),
        ({"activation": ["always"]}, "better, always or never"),
        ({"accuracy": 1.5}, "accuracy"),
        ({"accuracy": True}, "accuracy"),
        ({"accuracy": "0.9"}, "accuracy"),
        ({"accuracy": 10**400}, "accuracy"),
        ({"unfamiliar": {"energy_threshold": "low"}}, "energy_threshold"),
        ({"unfamiliar": {}}, "energy_threshold"),
        ({"unfamiliar": []}, "energy_threshold"),
        ({"data": "CIFAR-10"}, "data of the card"),
    ],
    ids=str,
)
def test_a_card_that_is_wrong_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    refuse(publish(tmp_path, **changes), words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds 0 bytes"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"accuracy": NaN}', "NaN"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (artifact.MAX_CARD_BYTES + 1), "bytes"),
    ],
    ids=["empty", "half", "no text", "a list", "NaN", "deep", "large"],
)
def test_a_card_that_is_no_card_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    folder = publish(tmp_path)
    (folder / "card.json").write_bytes(content)
    refuse(folder, words)


def header(text: str, length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text.encode()


LIST = {"format": "layers/2", "layers": json.dumps(LAYERS)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"x", "header"),
        (b"not tensors", "header"),
        (header("{}", 2**63), "header"),
        (header("{}", artifact.MAX_HEADER_BYTES + 1) + bytes(2**21), "header"),
        (header("{" * 100_000), "not JSON"),
        (header("[]"), "format None"),
        (header(json.dumps({"__metadata__": {"format": "layers/1"}})), "'layers/1', not 'layers/2'"),
        (header(json.dumps({"__metadata__": LIST | {"layers": "{"}})), "list of layers.*not JSON"),
        (header(json.dumps({"__metadata__": LIST | {"layers": "[" * 90_000}})), "list of layers.*not JSON"),
        (header(json.dumps({"__metadata__": LIST | {"layers": "{}"}})), "not a list"),
        (
            header(
                json.dumps(
                    {"__metadata__": LIST, "a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}
                )
            ),
            "tensors",
        ),
        (encode()[:-1], "tensors"),
        (encode() + b"x", "tensors"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_model_file_that_is_none_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    refuse(publish(tmp_path, model=content), words)


def make_huge(folder: Path, file: str) -> Path:
    with (folder / file).open("r+b") as opened:
        opened.truncate(2**40)  # it takes no room on the disk
    return folder


@pytest.mark.parametrize("file", ["model.safetensors", "card.json"])
def test_a_file_that_is_too_large_is_not_read(file: str, tmp_path: Path) -> None:
    refuse(make_huge(publish(tmp_path), file), "bytes")


REFUSE_ALL = """
import resource, sys, torch
from pathlib import Path
from inference import classifier
from inference.errors import ArtifactError
classifier.load(Path(sys.argv[1]), torch.device("cpu"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in sys.argv[2:]:
    try:
        classifier.load(Path(folder), torch.device("cpu"))
    except ArtifactError:
        continue
    sys.exit(f"{folder} was loaded")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_what_would_take_much_memory_takes_none(tmp_path: Path) -> None:
    """In a process of its own, for a peak is never forgotten."""
    whole = publish(tmp_path, "whole")
    hostile = [make_huge(publish(tmp_path, file), file) for file in ("model.safetensors", "card.json")]
    models = {
        "header": header("{}", 2**40),
        "shape": header(
            json.dumps(
                {"__metadata__": LIST, "a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}
            )
        ),
        "padding": encode(changed(1, padding=10**9)),
        "pooling": encode(changed(3, size=10**9)),
        "filters": encode(
            [LAYERS[0], {"op": "conv2d", "padding": 8}, {"op": "flatten"}, LAYERS[-1]],
            make_tensors() | {"1.weight": torch.zeros(200_000, 3, 1, 1), "1.bias": torch.zeros(200_000)},
        ),
    }
    hostile += [publish(tmp_path, name, model=model) for name, model in models.items()]
    command = [sys.executable, "-c", REFUSE_ALL, str(whole), *map(str, hostile)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50_000  # kB


def test_a_file_is_a_file_and_no_link_is_followed(tmp_path: Path) -> None:
    whole = publish(tmp_path, "whole")
    for name in ("card.json", "model.safetensors"):
        folder = publish(tmp_path, f"linked-{name}", version=f"linked-{name}")
        (folder / name).rename(tmp_path / name)
        refuse(folder, f"{name} cannot be read: No such file")
        (folder / name).symlink_to(tmp_path / name)
        refuse(folder, f"{name} is a link")
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")
        refuse(folder, f"{name} is a link")
        (folder / name).unlink()
        os.mkfifo(folder / name)
        refuse(folder, f"{name} is not a file")
        (folder / name).unlink()
        (folder / name).mkdir()
        refuse(folder, f"{name} is not a file")
    (tmp_path / "link").symlink_to(whole)
    refuse(tmp_path / "link", "the version is a link")
    refuse(tmp_path / "missing", "the version cannot be read")


def changed(place: int, **changes: Any) -> list[Any]:
    return [layer | changes if index == place else layer for index, layer in enumerate(LAYERS)]


RESIDUAL = {"op": "residual", "layers": [{"op": "gelu"}]}


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "first layer"),
        ([{"op": "normalise"}], "first layer"),
        (LAYERS[1:], "first layer"),
        (LAYERS[:-1], "last softmax"),
        ([*LAYERS, {"op": "softmax"}], "only the last"),
        ([LAYERS[0], *LAYERS], "normalise, which only the first"),
        (["normalise", *LAYERS[1:]], "first layer"),
        (changed(3, op="lstm"), "layer 3 is unknown"),
        (changed(3, op=["gelu"]), "layer 3 is unknown"),
        (changed(4, size=2), "layer 4, flatten, must have the keys op"),
        (changed(6, axis=1), "layer 6, softmax"),
        (changed(1, padding=-1), "padding of layer 1 is -1, not 0 to 8"),
        (changed(1, padding=10**9), "padding of layer 1"),
        (changed(1, padding=10**400), "padding of layer 1"),
        (changed(1, padding=True), "padding of layer 1 is True"),
        (changed(1, padding=1.0), "padding of layer 1 is 1.0"),
        (changed(1, padding="same"), "padding of layer 1 is 'same'"),
        (changed(3, size=0), "size of layer 3"),
        (changed(3, size=10**9), "size of layer 3"),
        (changed(3, size=[8, 8]), "size of layer 3"),
        (changed(2, layers=[]), "layer 2 needs layers"),
        (changed(2, layers={}), "layer 2 needs layers"),
        (changed(2, layers=[RESIDUAL]), "layer 2.0 is unknown"),
        (changed(2, layers=[{"op": "normalise"}]), "layer 2.0 is normalise"),
        (changed(2, layers=[{"op": "softmax"}]), "layer 2.0 is softmax"),
        (changed(2, layers=[{"op": "max_pool2d", "size": 1}] * 300), "more than 256 layers"),
        ([LAYERS[0], *[{"op": "gelu"}] * 100_000, LAYERS[-1]], "header|more than 256 layers"),
        (changed(2, layers=[*LAYERS[2]["layers"], {"op": "flatten"}]), "body of layer 2 makes"),
        (changed(2, layers=[*LAYERS[2]["layers"], {"op": "max_pool2d", "size": 2}]), "body of layer 2"),
        ([*LAYERS[:5], {"op": "max_pool2d", "size": 2}, LAYERS[6]], "no layer uses|layer 5"),
        (changed(3, size=2), "layer 5 does not take"),
        (changed(4, op="gelu"), "layer 5 does not take"),
        ([*LAYERS[:5], {"op": "softmax"}], "no layer uses the tensor 5.weight"),
    ],
    ids=lambda value: repr(value)[-60:],
)
def test_layers_that_do_not_make_a_model_are_refused(layers: list[Any], words: str, tmp_path: Path) -> None:
    refuse(publish(tmp_path, model=encode(layers)), words)


def replaced(**tensors: Tensor | None) -> dict[str, Tensor]:
    changes = {name.replace("_", "."): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in (make_tensors() | changes).items() if tensor is not None}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replaced(**{"5_weight": None}), "5.weight is missing"),
        (lambda: replaced(extra=torch.zeros(1)), "no layer uses the tensor extra"),
        (lambda: replaced(**{"5_weight": torch.zeros(3, 64, dtype=torch.float64)}), "float64"),
        (lambda: replaced(**{"5_weight": torch.full((3, 64), torch.nan)}), "not finite"),
        (lambda: replaced(**{"5_weight": torch.full((3, 64), 3e38)}), "answers are not finite"),
        (lambda: replaced(**{"5_weight": torch.zeros(3, 65)}), "layer 5 does not take"),
        (lambda: replaced(**{"5_weight": torch.zeros(64)}), "5.weight is of the shape"),
        (lambda: replaced(**{"5_weight": torch.zeros(0, 64)}), "5.weight is of the shape"),
        (lambda: replaced(**{"0_scale": torch.ones(9, 3, 1, 1)}), "scale and shift of the shape"),
        (lambda: replaced(**{"1_bias": torch.zeros(3)}), "4 filters and 3 biases"),
        (lambda: replaced(**{"1_weight": torch.zeros(4, 1, 3, 3)}), "layer 1 does not take"),
        (lambda: replaced(**{"1_weight": torch.zeros(4, 3, 9, 9)}), "kernel of more than 7"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    make: Callable[[], dict[str, Tensor]], words: str, tmp_path: Path
) -> None:
    refuse(publish(tmp_path, model=encode(tensors=make())), words)


def test_an_image_may_cost_only_so_much_and_nothing_runs_to_find_out() -> None:
    wide = {"0.scale": torch.ones(1, 3, 1, 1), "0.shift": torch.ones(1, 3, 1, 1)}
    wide |= {"1.weight": torch.zeros(2000, 3, 1, 1), "1.bias": torch.zeros(2000)}
    layers = [LAYERS[0], {"op": "conv2d", "padding": 0}, LAYERS[-1]]
    with pytest.raises(ArtifactError, match="2,048,000 values"):
        check_cost(Builder(wide, torch.float32).build(layers), IMAGE)

    deep = {name: tensor for name, tensor in make_tensors().items() if name[0] == "0"}
    deep |= {"1.weight": torch.zeros(512, 3, 1, 1), "1.bias": torch.zeros(512)}
    for place in range(2, 6):
        deep |= {f"{place}.weight": torch.zeros(512, 512, 3, 3), f"{place}.bias": torch.zeros(512)}
    layers = [LAYERS[0], {"op": "conv2d", "padding": 0}, *[{"op": "conv2d", "padding": 1}] * 4, LAYERS[-1]]
    with pytest.raises(ArtifactError, match="multiplications"):
        check_cost(Builder(deep, torch.float32).build(layers), IMAGE)


def test_only_folders_with_a_proper_name_are_versions(tmp_path: Path) -> None:
    for name in ("2026-01-02-abc", ".partial-1", ".runs", "a b", "x" * 101, "-x", "é"):
        (tmp_path / name).mkdir()
    (tmp_path / "active").write_text("2026-01-02-abc\n")
    (tmp_path / "link").symlink_to("2026-01-02-abc")
    (tmp_path / "line\n").mkdir()
    assert artifact.list_versions(tmp_path) == ["2026-01-02-abc", "link"]


def test_the_classes_of_a_loaded_model_are_its_card_s(tmp_path: Path) -> None:
    loaded = classifier.load(publish(tmp_path), CPU)
    assert (loaded.version, loaded.classes) == ("v1", CLASSES)
