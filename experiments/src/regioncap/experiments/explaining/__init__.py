"""Explaining: what a captioner chose and heeded for a picture, as data and as a figure."""
