"""The options of `make gpu-check`. The process of each part receives them as JSON."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Options:
    parts: list[str]
    model: Path
    images: Path | None
    data: Path | None
    cache: Path
    airbench: Path | None
    fast: int
    accurate: int
    balanced: int
    seconds: float
    tiny: bool
    json: Path

    def encode(self) -> str:
        return json.dumps(asdict(self), default=str)


def decode(text: str) -> Options:
    fields = json.loads(text)
    for name in ("model", "images", "data", "cache", "airbench", "json"):
        fields[name] = fields[name] and Path(fields[name])
    return Options(**fields)


def parse(parts: list[str], arguments: list[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="make gpu-check", description="docs/gpu.md says what each part checks."
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=parts, default=parts, help="which parts run [all]")
    add("--model", type=Path, default=find_model(), help="a version's folder [the newest in models/]")
    add(
        "--images",
        type=Path,
        help="test images: the .npz file of `python -m tests.gpu.image_file` "
        "[those of --data; in worker_loop, or with --tiny: the reference images of --model]",
    )
    add("--data", type=Path, help="a folder, .tar or .zip with train/ and test/ [CIFAR-10]")
    add("--cache", type=Path, default=Path(".local/data"), help="where data is unpacked [.local/data]")
    add(
        "--airbench",
        type=Path,
        help="folder of airbench's scripts, to compare with the recipes fast and accurate",
    )
    add("--fast", type=int, default=10, help="trainings with the recipe fast [10]")
    add("--accurate", type=int, default=1, help="trainings with the recipe accurate [1]")
    add(
        "--balanced",
        type=int,
        default=1,
        help="trainings with the recipe balanced; the first model of --accurate is the teacher [1]",
    )
    add("--seconds", type=float, default=600, help="time limit for all parts [600]")
    add("--tiny", action="store_true", help="few images and short trainings; always so without a GPU")
    add("--json", type=Path, default=Path(".local/gpu-check.json"), help="where the figures are written")
    return Options(**vars(parser.parse_args(arguments)))


def find_model() -> Path:
    """The newest published version in the folder `models`, by the day in its name."""
    return max(path.parent for path in (REPOSITORY / "models").glob("[!.]*/card.json"))
