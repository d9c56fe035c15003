"""Latency, memory and scale of every stage: what is measured, kept, compared and drawn."""
