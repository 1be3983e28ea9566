"""Clips in and out (PyAV): the only place that knows containers, codecs and what their numbers mean."""
