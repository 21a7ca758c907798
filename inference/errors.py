"""What can go wrong in the worker.

InferenceError
├── ArtifactError        a model artifact is missing, damaged or of an unknown format; the worker refuses it
│                        and keeps serving the version that it has
├── ClassificationError  the model raised for one image; only that prediction fails
└── DeviceLost           the model raises for every image; the worker's process ends
"""


class InferenceError(Exception):
    """Base class of this service's errors."""


class ArtifactError(InferenceError):
    """The artifact cannot be served. The text tells its publisher why."""


class ClassificationError(InferenceError):
    """The model raised for this image, also when it was alone in a batch."""


class DeviceLost(InferenceError):
    """The model raised for a black image, so the device or its memory is unusable."""
