"""Clips out: codecs, containers, what passes through, files that are whole or not there."""
