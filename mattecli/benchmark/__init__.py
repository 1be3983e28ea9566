"""Speed and memory, of networks side by side and of clips from file to file."""
