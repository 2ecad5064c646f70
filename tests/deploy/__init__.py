"""The cluster file and the image: they parse, say what they must, and a planted fault is noticed."""
