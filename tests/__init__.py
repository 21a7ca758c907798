"""Tests against the real servers. A server that is missing fails a test; nothing is skipped for it."""
