"""The part `serving` of `make gpu-check`: the answers and the speed of a version on the GPU.

The variant "as served" is what an inference worker does on a GPU. The others turn TF32 off, compute in
float16, let cuDNN choose its algorithms by heuristics or use CUDA graphs. Times include the copies to the
device and back.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from inference import artifact
from inference.artifact import Artifact
from inference.classifier import Loader
from inference.engine import CPU, CUDA, Engine, has_cuda
from tests.gpu import device, image_file
from tests.gpu.findings import report_check, report_figure, report_skipped
from tests.gpu.options import Options, decode
from tests.gpu.sessions import Answers, FixedBatchSession, Images, Session, to_float16
from training import data
from training.data import Split
from training.errors import DataError
from training.evaluate import Answers as LabelledAnswers
from training.weights import read_teacher

# The goals. SAME_LABELS: the share of images with the same label as on the CPU. LEAST_IMAGES: how many images
# this comparison needs. BATCH_1_MS: for a batch of one image. IMAGES_PER_SECOND: for the largest batch.
SAME_LABELS, LEAST_IMAGES, BATCH_1_MS, IMAGES_PER_SECOND = 0.998, 10_000, 0.5, 100_000
MAX_DIFFERENCE = 0.02  # of probabilities, as in inference/engine.py
BATCHES, TINY_BATCHES = (1, 8, 64, 256, 1024), (1, 4)
FIRST_BATCHES = (3, 5, 7)
CHUNK = 500  # images in a pass when answers are compared
MAX_BATCH = 64  # a worker's default
Variant = Callable[[Images], Answers]


@dataclass(frozen=True)
class Peaks:
    """The speed of PyTorch's matrix product on the device, in 10^12 operations a second."""

    tf32: float
    half: float


def run(options: Options) -> None:
    classifier = Loader(cpu_threads=1, max_batch_size=8 if options.tiny else MAX_BATCH).load(options.model)
    text = classifier.device_name + (f", because {classifier.fallback}" if classifier.fallback else "")
    report_check("device", text, "no fallback", passed=not classifier.fallback)
    if classifier.fallback and has_cuda():
        return  # CUDA does not work, so there is nothing to measure
    found = artifact.read(options.model)
    split = read_images(options, found)
    if not has_cuda():
        why = "this build of ONNX Runtime has no CUDA; all figures of this part are the CPU's"
        report_skipped("CUDA provider", why)
    reference = answer(Engine(found.float32, threads=0, provider=CPU), split.images)
    variants: dict[str, Variant] = {
        "as served": Engine(found.float32, 1, CUDA if has_cuda() else CPU),
        "float32 without TF32": Session(found.float32, use_tf32="0"),
        "float16": Session(half := to_float16(found.float32)),
    }
    least = 1 if options.tiny else LEAST_IMAGES
    for name, variant in variants.items():
        compare(
            name,
            answer(variant, split.images),
            reference,
            split,
            least if name == "as served" else None,
        )
    operations, peaks = count_operations(found, options), measure_peaks(tiny=options.tiny)
    for name, variant in variants.items():
        for count in TINY_BATCHES if options.tiny else BATCHES:
            peak = peaks.half if name == "float16" else peaks.tf32
            has_goals = name == "as served" and has_cuda()
            time_batch(name, variant, make_batch(count), operations / peak, has_goals=has_goals)
    time_first_passes("default search", Session(found.float32))
    time_first_passes("heuristic search", Session(found.float32, cudnn_conv_algo_search="HEURISTIC"))
    # Only small batches: there, launching a kernel may cost more than running it.
    counts = TINY_BATCHES if options.tiny else BATCHES[:3]
    for count in counts:
        time_graph(
            "float32", found.float32, variants["as served"], make_batch(count), operations / peaks.tf32
        )
        time_graph("float16", half, variants["float16"], make_batch(count), operations / peaks.half)


def read_images(options: Options, found: Artifact) -> Split:
    """The test images of `--images`, else of `--data`, else of CIFAR-10.

    In a tiny run without `--images`, or if CIFAR-10 cannot be downloaded: the model's reference images, with
    the model's own labels.
    """
    if options.images:
        return Split(*image_file.read(options.images))
    if not options.tiny:
        try:
            return data.load(options.data, options.cache).test
        except DataError:
            if options.data:
                raise
    return Split(found.check.images, found.check.probabilities.argmax(1))


def answer(variant: Variant, images: Images) -> Answers:
    parts = [variant(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)]
    probabilities, energies = zip(*parts, strict=True)
    return np.concatenate(probabilities), np.concatenate(energies)


def compare(name: str, answers: Answers, reference: Answers, split: Split, least: int | None) -> None:
    """Compare answers with those of float32 on the CPU.

    `least`: the number of images that a check needs. None: the answers are only measured.
    """
    labelled, expected = (LabelledAnswers(given[0], split) for given in (answers, reference))
    same = float((labelled.predicted == expected.predicted).mean())
    worst = float(np.abs(answers[0] - reference[0]).max())
    text = (
        f"{same:.2%} of {len(split):,} labels equal those of float32 on the CPU, probabilities differ by "
        f"{worst:.4f} at most, accuracy {labelled.accuracy():.2%}, "
        f"calibration error {labelled.calibration_error():.2%}"
    )
    values = {
        "same": same,
        "worst": worst,
        "accuracy": labelled.accuracy(),
        "error": labelled.calibration_error(),
    }
    if least is not None:
        goal = f"{SAME_LABELS:.1%} or more, of at least {least:,} images"
        passed = same >= SAME_LABELS and len(split) >= least
        report_check(f"answers, {name}", text, goal, passed=passed, **values)
    else:
        report_figure(f"answers, {name}", text, **values)


def make_batch(count: int) -> Images:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def count_operations(found: Artifact, options: Options) -> float:
    """The operations for one image, in 10^12. A multiplication and an addition count as two."""
    net = read_teacher(options.model, found.card.classes)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net(torch.zeros(1, 3, 32, 32))
    return counter.get_total_flops() / 1e12


def measure_peaks(*, tiny: bool) -> Peaks:
    here = device.choose() if has_cuda() else torch.device("cpu")
    side = 8192 if here.type == "cuda" and not tiny else 256
    torch.set_float32_matmul_precision("high")
    half = torch.float16 if here.type == "cuda" else torch.float32  # CPUs compute float16 slowly
    peaks = Peaks(*(device.matrix_teraflops(kind, side, here) for kind in (torch.float32, half)))
    names = ("TF32", "float16") if here.type == "cuda" else ("float32", "float32")
    rates = ", ".join(f"{name} {rate:.3g} TFLOP/s" for name, rate in zip(names, astuple(peaks), strict=True))
    text = f"{rates}, {side} x {side} on {here.type}"
    report_figure("the device's own matrix product", text, tf32=peaks.tf32, half=peaks.half)
    return peaks


def milliseconds(variant: Variant, batch: Images, seconds: float) -> float:
    """The median time of a pass."""
    for _ in range(3 if seconds else 1):  # warm up: cuDNN looks for its fastest algorithms
        variant(batch)
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while not taken or time.perf_counter() < ends:
        started = time.perf_counter()
        variant(batch)
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def time_batch(name: str, variant: Variant, batch: Images, image_at_peak: float, *, has_goals: bool) -> None:
    """Time a pass. `image_at_peak`: the seconds for one image at the speed of the matrix product."""
    count = len(batch)
    ms = milliseconds(variant, batch, 0.4 if has_cuda() else 0.0)
    rate = 1000 * count / ms
    share = rate * image_at_peak
    what = f"batch of {count}, {name}"
    text = f"{ms:.3f} ms, {rate:,.0f} images/s, {share:.1%} of the matrix product's peak"
    values = {"ms": ms, "images_per_second": rate, "share": share}
    if has_goals and count == 1:
        report_check(what, text, f"under {BATCH_1_MS} ms", passed=ms < BATCH_1_MS, **values)
    elif has_goals and count == BATCHES[-1]:
        goal = f"over {IMAGES_PER_SECOND:,} images/s"
        report_check(what, text, goal, passed=rate > IMAGES_PER_SECOND, **values)
    else:
        report_figure(what, text, **values)


def time_first_passes(name: str, variant: Variant) -> None:
    """Time the first pass of each new batch size, in which cuDNN may search for its fastest algorithms."""
    taken: list[float] = []
    for count in FIRST_BATCHES:
        batch = make_batch(count)
        started = time.perf_counter()
        variant(batch)
        taken.append(1000 * (time.perf_counter() - started))
    sizes = ", ".join(map(str, FIRST_BATCHES))
    report_figure(f"first passes, {name}", f"{max(taken):.1f} ms at most, batches of {sizes}", ms=taken)


def time_graph(name: str, content: bytes, plain: Variant, batch: Images, image_at_peak: float) -> None:
    """Time a pass as a CUDA graph, and compare its answers with those of `plain`."""
    what = f"batch of {len(batch)}, graph, {name}"
    try:  # a session of its own, because a graph has one batch size
        graph = FixedBatchSession(Session(content, enable_cuda_graph="1"), batch, plain(batch)[0].shape[1])
        time_batch(f"graph, {name}", graph, batch, image_at_peak, has_goals=False)
        other = 255 - batch  # the graph must read the new images, not those of its capture
        worst = float(np.abs(graph(other)[0] - plain(other)[0]).max())
    except Exception as error:  # ONNX Runtime's exceptions have no common class
        report_skipped(what, f"ONNX Runtime refuses: {' '.join(str(error).split())[:200]}")
        return
    text = f"probabilities differ by {worst:.4f} at most from those without a graph"
    report_check(
        f"answers, {what}", text, f"{MAX_DIFFERENCE} at most", passed=worst <= MAX_DIFFERENCE, worst=worst
    )


if __name__ == "__main__":
    run(decode(sys.argv[1]))
