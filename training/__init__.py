"""Trains the classifier and publishes it as a versioned artifact."""
