"""Flower's settings for Celery (CELERY_CONFIG_MODULE)."""

broker_pool_limit = 0  # a kept connection that the broker's restart broke would fail the next pages
task_default_queue = "inference"  # what the broker page shows when no worker was asked yet
