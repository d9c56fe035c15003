"""Steering: what a user wants said or unsaid of a picture, put into guidance and measured."""
