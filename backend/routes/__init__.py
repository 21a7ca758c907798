"""The HTTP API: one module for each part. Routes read requests, call the objects of `Services` and answer."""
