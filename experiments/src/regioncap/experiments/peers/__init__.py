"""Captioners that others published, in our harness: same images, same search, same metrics."""
