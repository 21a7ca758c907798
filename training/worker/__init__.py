"""The Celery worker that runs the training command as a child process.

The worker imports nothing of the command: it gives options, and reads JSON lines.
"""
