"""Keyword supervision: words of training captions and phrases teach what images and regions are called."""
