"""The findings of `make gpu-check`. Each part writes JSON lines; the parent process prints them as rows."""

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["passed", "failed", "measured", "skipped"]
MARKS: dict[Outcome, str] = {"passed": "ok", "failed": "FAILED", "measured": "", "skipped": "skipped"}


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    what: str
    outcome: Outcome
    text: str
    """The figures in words, with the goal if they miss it; or why a check was skipped or a part failed."""
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    """The figures as numbers, for the JSON file."""

    def __str__(self) -> str:
        return f"{MARKS[self.outcome]:9} {self.what:44} {self.text}"


def send(finding: Finding) -> None:
    """Write one finding to standard output, for the parent process."""
    print(json.dumps({"finding": asdict(finding)}), file=sys.stdout, flush=True)


def read(line: str) -> Finding | None:
    """The finding of a line; None for a line that a library has written."""
    try:
        return Finding(**json.loads(line)["finding"])
    except (ValueError, KeyError, TypeError):
        return None


def report_figure(what: str, text: str, **values: Any) -> None:
    """Report a figure that has no goal."""
    send(Finding(what, "measured", text, values))


def report_skipped(what: str, why: str) -> None:
    """Report a check that this run cannot make."""
    send(Finding(what, "skipped", why))


def report_check(what: str, text: str, goal: str, *, passed: bool, **values: Any) -> None:
    """Report a figure that has a goal."""
    sentence = text if passed else f"{text}; the goal is {goal}"
    send(Finding(what, "passed" if passed else "failed", sentence, values))
