"""The JSON lines of a failed run, as its worker reads them."""

import json
import subprocess
import sys

from scripts.local.config import REPOSITORY

FAIL = """
from training.errors import DataError
from training.report import JsonLines
JsonLines().failed(DataError("train/caf\\udce9 holds no image. Add images."))
"""


def test_a_failed_run_reports_a_title_and_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAIL], input=b"\n", capture_output=True, check=True, cwd=REPOSITORY
    )
    detail = "train/caf\udce9 holds no image. Add images."
    assert json.loads(done.stdout) == {"error": {"title": "Data cannot be used", "detail": detail}}
    assert done.stderr == b""
