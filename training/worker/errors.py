"""The errors that end an attempt of a run.

`celery_worker.errors.Stopped` also ends an attempt: the worker shuts down, and the run returns to the queue.
"""


class TrainingFailed(Exception):
    """The run fails. `title` says what happened, the text says why and what to do."""

    def __init__(self, title: str, detail: str) -> None:
        super().__init__(detail)
        self.title = title


class Lost(Exception):
    """The run is canceled, deleted, or claimed by another attempt. This attempt must not change the row."""
