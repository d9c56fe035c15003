"""`regioncap report`: a study as one HTML page, with Markdown and LaTeX beside it."""
