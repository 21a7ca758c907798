"""The HTTP API: a module for each part. A route reads the request, calls one object and answers."""
