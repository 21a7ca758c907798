"""From the bytes of an image file to the pixels that the model sees.

The backend reads uploads with this package and training reads data sets with it, so a network learns from
exactly what it will be shown. The package knows nothing of either.
"""
