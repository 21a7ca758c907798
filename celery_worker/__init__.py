"""What the two Celery workers have in common: how they run, and nothing of what they do."""
