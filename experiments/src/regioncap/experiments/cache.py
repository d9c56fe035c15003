"""Where things that can be made again are kept: scenes, features, banks, language weights, metric caches."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """REGIONCAP_CACHE, or `regioncap` in the user's cache folder."""
    given = os.environ.get("REGIONCAP_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "regioncap"
