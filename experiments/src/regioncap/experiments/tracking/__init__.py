"""MLflow as a user sees it: named runs with descriptions, grouped metrics, captions, pictures."""

from regioncap.experiments.tracking.metric_names import metric_name
from regioncap.experiments.tracking.store import MlflowStore, open_store, store_uri
from regioncap.experiments.tracking.tracker import StudyTracker

__all__ = ["MlflowStore", "StudyTracker", "metric_name", "open_store", "store_uri"]
