"""What can end an attempt at a training run, other than its success.

TrainingError
├── TrainingFailed  the run fails, with a title and a detail for its user
├── Lost            the row is no longer this attempt's: canceled, deleted, or claimed again
└── Stopped         the worker is shutting down; the run goes back to the queue
"""


class TrainingError(Exception):
    """Base of the training worker's errors."""


class TrainingFailed(TrainingError):
    """The run fails; `title` says what, the text says why and what to do."""

    def __init__(self, title: str, detail: str) -> None:
        super().__init__(detail)
        self.title = title


class Lost(TrainingError):
    """Another may have the run now, or nobody; what this attempt still says must change nothing."""


class Stopped(TrainingError):
    """The worker ends before the run does."""
