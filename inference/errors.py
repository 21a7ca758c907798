"""What can go wrong in the worker.

InferenceError
├── ArtifactError        the model artifact is missing, damaged or of an unknown format; the worker
│                        does not start
└── ClassificationError  the model could not answer for one image; its prediction fails, alone
"""


class InferenceError(Exception):
    """Base of this service's errors."""


class ArtifactError(InferenceError):
    """The artifact cannot be served; the text says which file and why."""


class ClassificationError(InferenceError):
    """The model raised for this image even in a batch of its own."""
