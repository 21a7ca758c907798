"""What can go wrong in the worker."""


class ArtifactError(Exception):
    """A model artifact is missing, damaged or of an unknown format. The text tells its publisher why.

    The worker refuses the artifact and keeps serving the version that it has.
    """


class ClassificationError(Exception):
    """Predictions of a message failed. Flower shows the text."""


class DeviceLost(Exception):
    """The model raised for a black image, so the device or its memory is unusable. The process ends."""
