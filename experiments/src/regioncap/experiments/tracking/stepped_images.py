"""Pictures of one key at many steps, in the files that MLflow's interface looks for.

`MlflowClient.log_image` names them by the present time and by chance, and takes a picture, not a file: logged twice, it
would show twice. Here they are written once and may be delivered as often as it takes.
"""

import uuid
from pathlib import Path

from mlflow.tracking.multimedia import compress_image_size
from PIL import Image

FOLDER = "images"
"""Among a run's artifacts."""
TAGS = {"mlflow.loggedImages": "True"}
"""Makes the interface look for them."""


def write_stepped_image(picture: Path, key: str, step: int, time_ms: int, folder: Path) -> None:
    """The whole picture and a small one, into `folder`."""
    name = f"{key.replace('/', '~')}+step+{step}+timestamp+{time_ms}+{uuid.uuid4()}"
    with Image.open(picture) as image:
        # 256 colours make a photograph's PNG a third as large; that is enough for looking at.
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE).convert("P")
    small.save(folder / f"{name}.png")
    compress_image_size(small).save(folder / f"{name}+compressed.webp")
