"""The Celery worker that starts the training command, of which it imports nothing."""
