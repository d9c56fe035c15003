"""The data set `scenes`: procedural pictures that need relations, attributes and scene words to be described."""

from regioncap.experiments.data.scenes.generate import ScenesConfig, make_scenes, scenes_of
from regioncap.experiments.data.scenes.world import KINDS, Scene

__all__ = ["KINDS", "Scene", "ScenesConfig", "make_scenes", "scenes_of"]
