"""Why a file gives no pixels.

ImageError
├── UnknownFormat   no supported image format, judged by content
├── DamagedImage    an image that ends early or is damaged
└── TooManyPixels   width times height over the limit

The text is for people: what is wrong with the file and what to do next.
"""


class ImageError(Exception):
    """Base of the reasons why a file gives no pixels."""


class UnknownFormat(ImageError):
    """The content is no supported image format."""


class DamagedImage(ImageError):
    """The image ends early or is damaged."""


class TooManyPixels(ImageError):
    """Width times height is over the limit."""
