"""The HTTP service: stores uploads, publishes task messages and streams status."""
