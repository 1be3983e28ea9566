"""A frame as a decoder gives it and an encoder takes it: its planes, their colours and how they are scaled."""
