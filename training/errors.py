"""The errors that end a command of this package. Each has a title, and a text that says what to do."""


class CommandError(Exception):
    """Ends the command with exit status 1."""

    title: str


class DataError(CommandError):
    title = "Data cannot be used"


class TeacherError(CommandError):
    title = "Teacher cannot be used"


class ModuleError(CommandError):
    title = "Module cannot be used"


class OtherRun(CommandError):
    """The checkpoint belongs to another run."""

    title = "Training cannot resume"


class Diverged(CommandError):
    """The loss is infinite or not a number."""

    title = "Training diverged"


class OutOfMemory(CommandError):
    title = "The GPU's memory is full"


class InstallError(CommandError):
    title = "PyTorch is missing"
