"""The error that ends work when a worker shuts down."""


class Stopped(Exception):
    """The worker is shutting down. Work that cannot end soon is left for another worker."""
