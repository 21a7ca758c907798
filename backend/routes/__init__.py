"""The HTTP API: a module for each part.

A route reads the request, calls the objects of `Services` and answers.
"""
