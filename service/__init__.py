"""Headrace: a training service that learns from the files that people drop into a directory."""

__version__ = "0.6.0"
