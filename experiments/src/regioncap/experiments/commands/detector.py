"""`regioncap train-detector`: any of the detectors on anybody's boxes."""

from collections.abc import Sequence
from pathlib import Path

import torch

from regioncap.experiments.commands.parsing import fail, parse
from regioncap.experiments.detection.measure import DetectorScores
from regioncap.experiments.detection.presets import DETECTORS
from regioncap.experiments.detection.training import TrainDetectorConfig, train_detector_on

_HELP = f"""\
Train a Faster R-CNN on boxes, and measure it on others

  regioncap train-detector DETECTOR --data.boxes TRAIN.json --data.dev DEV.json --data.images DIR --out DIR
  regioncap train-detector DETECTOR --data.root DIR --out DIR      a folder with Flickr30k Entities: entities.jsonl

DETECTOR is one of {", ".join(DETECTORS)}. The files are in COCO's format. A run that was interrupted goes on with the
same command. `regioncap train-detector DETECTOR --help` lists every flag.
"""


def detector_command(arguments: Sequence[str]) -> int:
    """Train and print the figures."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    name = arguments[0]
    if name not in DETECTORS:
        return fail(f"train-detector wants a detector first ({', '.join(DETECTORS)}), got {name!r}", status=2)
    preset = DETECTORS[name]()
    default = TrainDetectorConfig(
        out=Path("runs") / f"detector-{name}", detector=preset.detector, training=preset.training
    )
    config = parse(TrainDetectorConfig, f"regioncap train-detector {name}", arguments[1:], default)
    # torch's threads wait for each other in every layer: one is faster on a small machine that others use as well.
    torch.set_num_threads(1)
    scores = train_detector_on(config)
    if scores is not None:
        print(_table(scores))
        print(f"Detector and figures: {config.out}")
    return 0


def _table(scores: DetectorScores) -> str:
    lines = [
        f"AP50 on dev  {100 * scores.ap50:5.1f}  mean over classes",
        f"             {100 * scores.ap50_weighted:5.1f}  classes weighted by their boxes",
        f"             {100 * scores.ap50_one_class:5.1f}  with the best class of a box only, as regions have it",
    ]
    lines += [f"             {100 * ap:5.1f}  {kind}" for kind, ap in scores.ap50_of_type.items()]
    lines.append(
        f"of the true boxes {100 * scores.recall:.1f} % are found and {100 * scores.named:.1f} % named as well"
    )
    lines += [
        f"attributes   {100 * own.accuracy:5.1f} % {group} right ({100 * own.majority:.1f} by the class alone, "
        f"{own.boxes} boxes)"
        for group, own in scores.attributes.items()
    ]
    return "\n".join(lines)
