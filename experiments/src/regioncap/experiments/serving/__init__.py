"""A trained captioner as a model of MLflow: logged, registered, and served by `mlflow models serve`."""

from regioncap.experiments.serving.log_captioner import BEST, log_captioner

__all__ = ["BEST", "log_captioner"]
