"""Trains the classifier and publishes it as an artifact. The worker starts the command on request."""
