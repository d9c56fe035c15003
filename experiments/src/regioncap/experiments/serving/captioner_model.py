"""The model that `mlflow models serve` runs: pictures in, captions out.

MLflow loads this file as code, not as a pickle. The checkpoint beside it is
the one that `regioncap caption` takes, its weights as safetensors.
"""

import base64
import binascii
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from PIL import Image

_BATCH = 16


class CaptionerModel(PythonModel):
    """`image` -> `caption`, `confidence` and `words`.

    A picture is a path on the server's machine, or the file itself in base64, with or without `data:image/...;base64,`
    before it. `words` are the scene words that the caption rests on, heaviest first.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the checkpoint."""
        # Not at the top: MLflow runs this file to log the model, too, and PyTorch takes seconds.
        from regioncap.experiments.checkpoint import load_checkpoint
        from regioncap.experiments.generate import CaptionGenerator

        checkpoint = load_checkpoint(Path(context.artifacts["checkpoint"]))
        self._captioner = checkpoint.captioner
        self._encoder = checkpoint.experiment.encoders.build().image
        self._generator = CaptionGenerator(checkpoint.captioner, checkpoint.tokenizer, checkpoint.experiment.search)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Caption the pictures of the column `image`. A picture that cannot be read is the request's error (400)."""
        pictures = [str(picture) for picture in model_input["image"]]
        rows: list[dict[str, Any]] = []
        for start in range(0, len(pictures), _BATCH):
            rows += self._caption(pictures[start : start + _BATCH])
        return pd.DataFrame(rows, columns=["caption", "confidence", "words"])

    def _caption(self, pictures: list[str]) -> Iterator[dict[str, Any]]:
        import torch

        from regioncap.experiments.pictures import records

        pixels = [self._pixels(picture, position) for position, picture in enumerate(pictures)]
        with torch.inference_mode():
            images = self._encoder(*(torch.stack(column) for column in zip(*pixels, strict=True)))
        generated = self._generator(images, [picture[-80:] for picture in pictures])
        for record in records(self._captioner, generated):
            yield {
                "caption": record["caption"],
                "confidence": record["confidence"],
                "words": list(record["scene_words"]),
            }

    def _pixels(self, picture: str, position: int) -> Any:
        """One picture as the encoder wants it."""
        try:
            sent = _decoded(picture)
            if sent is None:
                return self._encoder.load(Path(picture))
            with tempfile.NamedTemporaryFile(suffix=".png") as file:
                # What an encoder reads is a file; a picture that was sent becomes one for a moment.
                Image.open(io.BytesIO(sent)).save(file, "PNG", compress_level=0)
                file.flush()
                return self._encoder.load(Path(file.name))
        except (OSError, ValueError) as error:
            raise MlflowException(
                f"picture {position} is neither a picture in base64 nor a path on this machine that holds one: "
                f"{picture[:60]!r}{'...' if len(picture) > 60 else ''} ({type(error).__name__})",
                error_code=INVALID_PARAMETER_VALUE,
            ) from error


def _decoded(picture: str) -> bytes | None:
    """The file that is written in base64, or None for a path: its dot is no letter of base64."""
    head, comma, body = picture.partition(",")
    if head.startswith("data:") and comma:
        return base64.b64decode(body)
    try:
        return base64.b64decode(picture, validate=True) if len(picture) > 200 else None
    except binascii.Error:
        return None


mlflow.models.set_model(CaptionerModel())
