"""Data sets: each reader returns the same `CaptionData`."""
