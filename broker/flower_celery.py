"""Flower's settings for Celery. The variable CELERY_CONFIG_MODULE names this module."""

broker_pool_limit = 0  # a pooled connection would be broken after a restart of the broker
task_default_queue = "inference"  # Flower's broker page shows this queue until a worker reports its queues
