"""What can go wrong in the worker."""


class ArtifactError(Exception):
    """A model artifact is missing, damaged or of an unknown format. The text tells its publisher why.

    The worker refuses the artifact and keeps serving the version that it has.
    """


class ClassificationError(Exception):
    """The model raised for this image, also when it was alone in a batch. Only this prediction fails."""


class DeviceLost(Exception):
    """The model raised for a black image, so the device or its memory is unusable. The process ends."""
