"""What a part of the check found: rows of the table, as JSON lines on the way."""

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["passed", "failed", "measured", "not here"]
SIGNS: dict[Outcome, str] = {"passed": "ok", "failed": "FAILED", "measured": "", "not here": "not here"}


@dataclass(frozen=True)
class Finding:
    """One row. `values`: the figures as numbers, for the JSON file."""

    what: str
    outcome: Outcome
    says: str
    """The figures in words; for a failure one sentence."""
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return f"{SIGNS[self.outcome]:9} {self.what:44} {self.says}"


def tell(finding: Finding) -> None:
    """Write one finding to standard output, for the parent process."""
    print(json.dumps({"finding": asdict(finding)}), file=sys.stdout, flush=True)


def read(line: str) -> Finding | None:
    """The finding of a line; None for a line that a library has written."""
    try:
        return Finding(**json.loads(line)["finding"])
    except (ValueError, KeyError, TypeError):
        return None


def measured(what: str, says: str, **values: Any) -> None:
    tell(Finding(what, "measured", says, values))


def not_here(what: str, why: str) -> None:
    tell(Finding(what, "not here", why))


def judge(what: str, says: str, goal: str, *, passed: bool, **values: Any) -> None:
    """A figure that has a goal."""
    sentence = says if passed else f"{says}; the goal is {goal}"
    tell(Finding(what, "passed" if passed else "failed", sentence, values))
