"""A light student of a trained captioner: `regioncap distil`."""
