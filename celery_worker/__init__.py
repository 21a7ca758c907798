"""What the two Celery workers share: how they run. This package knows neither service."""
