"""The Celery worker that starts the training command. It imports no module of the command."""
