"""What `regioncap` does, a module for each group of commands. `cli` imports the one that is asked for."""
