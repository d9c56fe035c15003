"""The feature store: what frozen encoders say of every picture, written once and read back memory-mapped."""

from regioncap.encoders.store.errors import StoreError
from regioncap.encoders.store.extract import ExtractConfig, Observer, Team, extract
from regioncap.encoders.store.find import find_store
from regioncap.encoders.store.fingerprint import Fingerprint, fingerprint
from regioncap.encoders.store.manifest import Manifest
from regioncap.encoders.store.reader import FeatureStore, open_store

__all__ = [
    "ExtractConfig",
    "FeatureStore",
    "Fingerprint",
    "Manifest",
    "Observer",
    "StoreError",
    "Team",
    "extract",
    "find_store",
    "fingerprint",
    "open_store",
]
