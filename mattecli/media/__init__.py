"""Photos and clips in and out, and colour: the only room that knows files. It never imports torch."""
