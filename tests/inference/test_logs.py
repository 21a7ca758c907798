"""The inference worker's log: a JSON line for each outcome, with its ids."""

import json
import logging
from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest

from celery_worker import logs
from inference.outcomes import SKIPPED
from tests.inference.test_runner import POISON, ClaimedElsewhere, Rows, build_runner, run

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Generator[Lines]:
    """The worker's log lines about outcomes."""
    caplog.set_level(logging.INFO, "inference")
    logger = logging.getLogger("inference.runner")
    written = StringIO()
    handler = logs.build_handler(written)
    handler.addFilter(lambda record: record.levelno == logging.INFO)
    logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    logger.removeHandler(handler)


def test_each_outcome_is_logged_with_its_ids_and_figures(lines: Lines) -> None:
    good, bad = uuid4(), uuid4()
    run(build_runner(Rows({good: bytes(3072), bad: POISON})), [good, bad])
    found = {line["prediction_id"]: line for line in lines()}
    line = found[str(good)]
    assert line["request_id"] == f"upload-of-{good}"
    assert (line["status"], line["label"], line["confidence"]) == ("succeeded", "cat", 1.0)
    assert (line["batch_size"], line["error"]) == (2, None)
    assert line["queue_ms"] == 0
    assert line["predict_ms"] > 0
    assert (line["level"], line["logger"]) == ("INFO", "inference.runner")
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    line = found[str(bad)]
    assert (line["status"], line["label"], line["error"]) == ("failed", None, "Classification failed")


def test_an_outcome_is_logged_even_if_its_message_has_no_request_id(lines: Lines) -> None:
    id = uuid4()
    build_runner(Rows({id: bytes(3072)})).run({id: None}, lambda: None, is_redelivered=False)
    (line,) = lines()
    assert (line["prediction_id"], line["request_id"]) == (str(id), None)


def test_a_prediction_without_an_attempt_left_and_a_skipped_one_are_logged(lines: Lines) -> None:
    exhausted, gone = uuid4(), uuid4()
    rows = Rows({})
    rows.exhausted = {exhausted}
    outcomes = run(build_runner(rows), [exhausted, gone])
    logged = [(line["message"], line.get("error"), line["prediction_id"]) for line in lines()]
    failed = ("prediction finished", "Failed after 3 attempts", str(exhausted))
    assert logged == [failed, (SKIPPED, None, str(gone))]
    assert {id: str(outcome) for id, outcome in outcomes.items()} == {exhausted: "Stopped 3 times."}
    assert rows.passes == []


def test_an_outcome_that_was_not_written_is_logged_as_skipped(lines: Lines) -> None:
    good, late = uuid4(), uuid4()
    run(build_runner(ClaimedElsewhere({good: bytes(3072), late: bytes(3072)}, {late})), [good, late])
    logged = {line["prediction_id"]: line["message"] for line in lines()}
    assert logged == {str(good): "prediction finished", str(late): SKIPPED}
