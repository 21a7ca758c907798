"""What can end a training other than its success.

TrainingError
├── CommandError    the command ends, with the exit status of its kind and a text for people
│   ├── DataError     the images cannot be used
│   ├── TeacherError  the teacher cannot be used
│   ├── ModuleError   the module that is to be imported cannot be used
│   ├── OtherRun      the checkpoint is of another run
│   ├── InstallError  PyTorch could not be installed
│   └── Diverged      the loss became infinite, or no number
├── TrainingFailed  the worker's run fails, with a title and a detail for its user
├── Lost            the row is no longer this attempt's: canceled, deleted, or claimed again
└── Stopped         the worker is shutting down; the run goes back to the queue
"""


class TrainingError(Exception):
    """Base of this service's errors."""


class CommandError(TrainingError):
    """Ends the command; the text says why, and what to do."""

    status: int
    """The exit status that tells the worker."""


class DataError(CommandError):
    """The training data cannot be used; the text says what to change."""

    status = 2


class TeacherError(CommandError):
    """The teacher cannot be used; the text says why."""

    status = 2


class ModuleError(CommandError):
    """The module that is to be imported cannot be used; the text says why."""

    status = 2


class OtherRun(CommandError):
    """A checkpoint cannot bring on the run: it belongs to another one."""

    status = 3


class InstallError(CommandError):
    """PyTorch could not be installed; the text says why and what to do."""

    status = 5


class Diverged(CommandError):
    """The loss became infinite or no number; the text says what to do."""

    status = 4


class TrainingFailed(TrainingError):
    """The run fails; `title` says what, the text says why and what to do."""

    def __init__(self, title: str, detail: str) -> None:
        super().__init__(detail)
        self.title = title


class Lost(TrainingError):
    """Another may have the run now, or nobody; what this attempt still says must change nothing."""


class Stopped(TrainingError):
    """The worker ends before the run does."""
