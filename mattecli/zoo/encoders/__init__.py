"""Encoders that several networks share, with the key names of their public ImageNet weights."""
