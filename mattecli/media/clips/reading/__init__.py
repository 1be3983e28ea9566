"""Clips in: opening, decoding, the time and the place of every frame."""
