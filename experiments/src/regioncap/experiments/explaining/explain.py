"""Why the caption of a picture is what it is: a figure and a JSON file for each picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro

from regioncap.decoder import SearchConfig
from regioncap.encoders.images import read_image
from regioncap.experiments.caption import overlay_names, picture_files
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.explaining.evidence import gather
from regioncap.experiments.explaining.figure import draw_evidence
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.progress import track
from regioncap.experiments.scoring.whole_file import write_whole
from regioncap.experiments.steering.options import SteeringOptions
from regioncap.experiments.steering.steer import caption_batch, steerer_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainOptions:
    """Where the evidence goes, and edits to explain captions with."""

    out: Path = Path("explained")
    """Folder for NAME.png and NAME.json of each picture."""
    steering: Annotated[SteeringOptions, tyro.conf.arg(name="")] = field(default_factory=SteeringOptions)


def explain_pictures(
    folder: Path, paths: Sequence[Path], options: ExplainOptions, search: SearchConfig | None = None
) -> list[str]:
    """Explain the captions of files and of the pictures in folders by the checkpoint in `folder`.

    A file that does not decode is reported and left out; the reports are returned, one line each. Raises DataError if a
    path does not exist or no picture is found.
    """
    files = list(picture_files(paths))
    checkpoint = load_checkpoint(folder)
    encoders = checkpoint.experiment.encoders.build()
    steerer, checkpoint = steerer_of(options.steering, checkpoint, encoders.keywords)
    captioner, tokenizer = checkpoint.captioner, checkpoint.tokenizer
    generator = CaptionGenerator(captioner, tokenizer, search or checkpoint.experiment.search)
    names, problems = overlay_names(files), []
    for file in track(files, description="explain captions", total=len(files)):
        try:
            pixels = encoders.image.load(file)
        except ValueError as error:
            problems.append(str(error))
            continue
        with torch.inference_mode():
            images = encoders.image(*(part[None] for part in pixels))
        captioned = caption_batch(generator, images, [file.name], steerer)
        evidence = gather(captioner, generator, tokenizer, captioned.generated)[0]
        target = options.out / names[file]
        draw_evidence(read_image(file), evidence, target)
        record = {"image": str(file), **evidence.record(), **captioned.record(captioner, 0)}
        write_whole(target.with_suffix(".json"), json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        print(f"{file}\t{evidence.caption}\t{target}")
    return problems
