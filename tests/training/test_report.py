"""The JSON lines that a failed run writes for its worker."""

import json
import subprocess
import sys
from subprocess import PIPE

from scripts.local.config import REPOSITORY

# If a byte of a path is not UTF-8, Python reads it as a surrogate, here \udce9.
FAIL = """
from training.errors import DataError
from training.report import JsonLines
JsonLines().failed(DataError("train/caf\\udce9 holds no image. Add images."))
"""


def test_a_failed_run_reports_a_title_and_what_to_do() -> None:
    command = [sys.executable, "-c", FAIL]
    # The pipe keeps the child's standard input open: the child would end when that input closes.
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=REPOSITORY) as child:
        assert child.stdout and child.stderr
        reported, printed = child.stdout.read(), child.stderr.read()
    detail = "train/caf\udce9 holds no image. Add images."
    assert json.loads(reported) == {"error": {"title": "Data cannot be used", "detail": detail}}
    assert (child.returncode, printed) == (0, b"")
