"""Why a file gives no pixels. The user reads the text: what is wrong and, mostly, what to do next."""


class ImageError(Exception):
    """Base of the reasons why a file gives no pixels."""


class UnknownFormat(ImageError):
    """The file was not recognised as an image of a supported format."""


class UnsupportedVariant(ImageError):
    """The format is supported, but not this variant of it; the text names the variant."""


class DamagedImage(ImageError):
    """The image ends early or is damaged."""


class TooManyPixels(ImageError):
    """Width times height is over the limit."""


class TooComplex(ImageError):
    """Decoding would take too much work or memory."""
