"""What can go wrong in the worker."""


class ArtifactError(Exception):
    """A version, or one of its models, cannot be served. The text says why, for the person who published it.

    The worker refuses the version, unless it can serve the version by a fallback.
    """


class ClassificationError(Exception):
    """At least one prediction of a message failed. Flower shows the text."""


class DeviceLost(Exception):
    """The model raised even for a black image, so the device or its memory is unusable. The process ends."""
