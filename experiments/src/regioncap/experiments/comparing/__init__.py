"""Two runs side by side: `regioncap compare`. A run is what a study or `regioncap evaluate` left on disk."""
