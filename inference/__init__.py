"""The Celery worker that owns the device and serves predictions in batches."""
