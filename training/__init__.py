"""Trains the classifier and publishes it as an artifact. `training.worker` starts this command on request."""
