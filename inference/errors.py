"""What can go wrong in the worker.

InferenceError
├── ArtifactError        a model artifact is missing, damaged or of an unknown format; it is refused,
│                        and the worker goes on with the one that it has
├── ClassificationError  the model could not answer for one image; its prediction fails, alone
├── DeviceLost           the model answers for no image any more; the worker's process ends
└── Stopped              the worker is shutting down and the database is away
"""


class InferenceError(Exception):
    """Base of this service's errors."""


class ArtifactError(InferenceError):
    """The artifact cannot be served; the text says why, in words for whoever published it."""


class ClassificationError(InferenceError):
    """The model raised for this image even in a batch of its own."""


class DeviceLost(InferenceError):
    """The model raised for an image that any model can answer for: the device or its memory is gone."""


class Stopped(InferenceError):
    """The worker is shutting down and the database is away: leave the messages to the broker."""
