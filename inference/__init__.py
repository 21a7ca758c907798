"""The Celery worker that classifies images in batches."""
