"""The workers' logs: which lines are written, and in which form."""

import json
import subprocess
import sys

from scripts.local.config import REPOSITORY

PROGRAM = """
import logging
from celery.signals import celeryd_init, setup_logging
from celery_worker import logs
logs.configure("service")
for name in ("service.part", "celery_worker.app", "other"):
    logging.getLogger(name).info("informed", extra={"number": 7})
    logging.getLogger(name).warning("warned")
# Celery shows no banner, and configures no logs of its own.
worker = type("Worker", (), {"quiet": False})()
celeryd_init.send(None, instance=worker)
assert worker.quiet and setup_logging.receivers
"""


def test_a_worker_writes_its_own_lines_and_the_warnings_of_other_packages_as_json() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["logger"], line["level"], line["message"]) for line in lines] == [
        ("service.part", "INFO", "informed"),
        ("service.part", "WARNING", "warned"),
        ("celery_worker.app", "INFO", "informed"),
        ("celery_worker.app", "WARNING", "warned"),
        ("other", "WARNING", "warned"),
    ]
    assert lines[0]["number"] == 7
    assert next(iter(lines[0])) == "time"
