"""The errors that end a command of this package. Each has a title, and a text that says what is wrong.

CommandError
├── DataError     the images cannot be used
├── TeacherError  the teacher cannot be used
├── ModuleError   the torch module to publish cannot be used
├── OtherRun      the checkpoint was written with other options, data or training code
├── Diverged      the loss is infinite or not a number
├── OutOfMemory   the GPU's memory is full
└── InstallError  PyTorch could not be installed
"""


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
    title = "Training cannot resume"


class Diverged(CommandError):
    title = "Training diverged"


class OutOfMemory(CommandError):
    title = "The GPU's memory is full"


class InstallError(CommandError):
    title = "PyTorch is missing"
