"""Hyperparameter search with Optuna: a study that any number of workers on any number of machines share."""
