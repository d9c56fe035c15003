"""Training a captioner: phases as data, objectives, and the loop that runs them."""
