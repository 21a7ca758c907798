"""Shared by both Celery workers: consumer, configuration, logs, connections. It knows neither service."""
