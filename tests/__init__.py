"""Tests against the real servers. A missing server fails its tests; it skips none."""
