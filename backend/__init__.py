"""The HTTP service: takes uploads, writes rows, publishes messages, streams status."""
