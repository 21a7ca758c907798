"""Decode an image file to the pixels that the model sees.

The backend decodes uploads with this package, and training decodes data sets with it. So training and
prediction see the same pixels. The package imports neither service.
"""
