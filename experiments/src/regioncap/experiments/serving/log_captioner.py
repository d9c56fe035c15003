"""A checkpoint into MLflow: a model of its run, a version in the registry, and the alias `best` where due."""

import base64
import io
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array, TensorSpec
from packaging.requirements import Requirement
from PIL import Image

import regioncap
from regioncap.experiments.checkpoint import weights_digest
from regioncap.experiments.environment import environment

BEST = "best"
"""The registry's alias for the version of the highest CIDEr."""
_CODE = Path(__file__).with_name("captioner_model.py")
_PACKAGES = ("regioncap", "regioncap-encoders", "regioncap-graph", "regioncap-guidance", "regioncap-decoder")
_WEIGHTS = "regioncap.weights"
_CIDER, _IMAGES = "dev_CIDEr", "dev_images"
_EXAMPLE_PIXELS = 224


def log_captioner(
    client: MlflowClient, run_id: str, checkpoint: Path, *, name: str, picture: Path, cider: float, images: int
) -> str:
    """Log the checkpoint of a run as a model, register it as a version of `name`; returns the model's address.

    `picture` becomes the input example. `cider` (percent) was measured on `images` dev images: the alias `best` goes to
    the version measured on the most images, and among these to the highest CIDEr. A checkpoint whose very weights the
    run has logged before is not logged again.
    """
    digest = weights_digest(checkpoint)
    logged = client.get_run(run_id).data.tags.get(_WEIGHTS, "")
    if logged.endswith(digest):
        return logged.split(" ")[0]
    experiment_id = client.get_run(run_id).info.experiment_id
    tags = {_CIDER: f"{cider:.2f}", _IMAGES: str(images)}
    model = client.create_logged_model(
        experiment_id, name=name, source_run_id=run_id, tags=tags, model_type="captioner"
    )
    # Its progress bar is of copying a folder, and would stand between the lines of the study's.
    with tempfile.TemporaryDirectory() as folder, environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"):
        local = Path(folder) / "model"
        _save(local, checkpoint, picture, Model(model_id=model.model_id, run_id=run_id, model_uuid=model.model_id))
        client.log_model_artifacts(model.model_id, str(local))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    measured = client.get_run(run_id).data.metrics
    points = [
        Metric(key, value, model.creation_timestamp, 0, model_id=model.model_id, run_id=run_id)
        for key, value in measured.items()
        if key.startswith(("score/", "cost/"))
    ]
    client.log_batch(run_id, metrics=points)
    address = f"models:/{model.model_id}"
    _register(client, name, address, run_id, model.model_id, tags)
    client.set_tag(run_id, _WEIGHTS, f"{address} {digest}")
    return address


def _save(folder: Path, checkpoint: Path, picture: Path, model: Model) -> None:
    """The model's folder: code, checkpoint, signature, an example, and what to install."""
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "caption"),
        ColSpec(DataType.double, "confidence"),
        ColSpec(Array(DataType.string), "words"),
    ]
    signature = ModelSignature(inputs=Schema([ColSpec(DataType.string, "image")]), outputs=Schema(columns))
    sources = folder.with_name("sources") / "regioncap"
    for source in regioncap.__path__:  # five distributions, one namespace
        shutil.copytree(source, sources, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    mlflow.pyfunc.save_model(
        path=str(folder),
        mlflow_model=model,
        python_model=str(_CODE),
        artifacts={"checkpoint": str(checkpoint)},
        code_paths=[str(sources)],
        signature=signature,
        input_example=pd.DataFrame({"image": [_as_text(picture)]}),
        pip_requirements=requirements(),
    )
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)


def requirements() -> list[str]:
    """What to install for the captioner beside its own sources, at the versions that are installed here."""
    names = {requirement.name for package in _PACKAGES for requirement in _requirements(package)}
    names = {name for name in names if name not in _PACKAGES}
    # A local version such as 2.14.1+cpu is on no public index.
    return [f"{name}=={version(name).partition('+')[0]}" for name in sorted(names, key=str.lower)]


def _requirements(package: str) -> Iterator[Requirement]:
    for text in distribution(package).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _as_text(picture: Path) -> str:
    """A small JPEG in base64."""
    with Image.open(picture) as image:
        small = image.convert("RGB")
    small.thumbnail((_EXAMPLE_PIXELS, _EXAMPLE_PIXELS))
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=80)
    return base64.b64encode(jpeg.getvalue()).decode()


def _register(client: MlflowClient, name: str, address: str, run_id: str, model_id: str, tags: dict[str, Any]) -> None:
    try:
        client.create_registered_model(name, description=f"Captioners of {name}; `{BEST}` has the highest dev CIDEr.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # The registry looks the model up in the store that the environment names, whatever the client's is.
    with environment(MLFLOW_TRACKING_URI=client.tracking_uri):
        made = client.create_model_version(name, address, run_id=run_id, tags=tags, model_id=model_id)
    try:
        held = _measured(client.get_model_version_by_alias(name, BEST).tags)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        held = (0, 0.0)
    if _measured(tags) >= held:
        client.set_registered_model_alias(name, BEST, made.version)


def _measured(tags: dict[str, str]) -> tuple[int, float]:
    return int(tags.get(_IMAGES, 0)), float(tags.get(_CIDER, 0.0))
