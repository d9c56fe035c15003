"""The command line. Config fields are dotted flags, the same everywhere: `--graph.k 7 --train.steps 1300`."""

import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from regioncap.experiments.commands.parsing import fail
from regioncap.experiments.metrics import JavaWorkerError
from regioncap.experiments.unreachable import UnreachableError

_HELP = """\
RegionCap: image captioning by region graphs and multi-scale semantic guidance (Wang et al. 2025)

  regioncap extract PRESET --out STORE             what the image encoder says of every picture, once, for every study
  regioncap ablate PRESET --seeds N --out DIR      the study: every arm, scored on dev, as a table and in MLflow
  regioncap train PRESET --out DIR                 one captioner; its checkpoint is DIR/checkpoint
  regioncap tune PRESET --trials N --out DIR        better settings (Optuna); DIR/best.json is what train --config takes
  regioncap evaluate CHECKPOINT --data.root DIR --split S --out FILE.json
  regioncap evaluate hf:NAME_OR_FOLDER ...         the same for a captioner of transformers: BLIP, BLIP-2, GIT, ViT-GPT2
  regioncap robustness STUDY_OR_CHECKPOINT... --data.root DIR --out DIR     what occlusion, blur, noise, ... leave of it
  regioncap caption CHECKPOINT PATH... --out FILE.jsonl --overlay DIR
      --add red --drop wooden --scene beach --region 3=surfboard     edits what guidance chose; the caption follows
  regioncap explain CHECKPOINT PATH... --out DIR   why captions are what they are: words, gates, attention, as pictures
  regioncap measure-steering CHECKPOINT --data.root DIR --out DIR     how often edits are said, and what they cost
  regioncap measure-words CHECKPOINT               how often guidance finds the words that people use
  regioncap sweep-search CHECKPOINT --out DIR      what greedy tokens, beams and precisions cost and give
  regioncap pretrain-decoder FILE --out DIR        a decoder that has its language from text: --decoder.weights DIR
  regioncap self-critical CHECKPOINT --out DIR     trains on, with captions of its own that CIDEr-D rewards
  regioncap distil CHECKPOINT --out DIR            a light student of a trained captioner
  regioncap report DIR --out FILE.html             a study as one page: tables, curves, costs, gallery
  regioncap compare RUN RUN --html FILE.html       two runs: differences, intervals, p, the images that changed most
  regioncap tables DIR... --out DIR                the paper's Tables 3 to 6, and what was measured here below them
  regioncap figures RUN RUN --out FILE.png         photographs with references and captions, chosen by chance or by gain
  regioncap bench run                              latency, memory and scale of every stage, beside peers; a page
  regioncap bench compare A B                      what moved from one run to another; `bench gate` keeps ratios
  regioncap profile PRESET_OR_CHECKPOINT --out DIR     where the time goes: a trace for Perfetto, operators, memory
  regioncap dashboard                              MLflow in the browser, over the studies under runs/
  regioncap dashboard deliver DIR...               what MLflow did not take while a study ran
  regioncap score --references R.json --predictions A.json B.json     anybody's captions: intervals, p, an HTML page
  regioncap data check DIR --out DIR               is a data set fit to train on: counts, leaks, a contact sheet
  regioncap metrics setup-spice --from DIR_OR_URL  what SPICE needs; from then on every command scores it
  regioncap train-detector DETECTOR --data.boxes TRAIN.json --data.dev DEV.json --data.images DIR --out DIR
  regioncap train-scenes-encoders                  the small encoders that ship with the project, made anew

PRESET is `scenes` (procedural pictures, made on the spot) or, for a folder of photographs (--data.root), `photos-best`,
`photos-grid`, `photos`, `photos-best-detected` and `photos-paper` (these three where it has the boxes of Flickr30k
Entities), `paper` (Table 2), `coco-paper`, `flickr30k-paper`. The folder has Flickr8k's layout unless --data names
another: coco, flickr30k or folder (a CSV, JSON or JSON lines file).
Every config field is a flag, such as --graph.k 7 or --train.steps 1300; `regioncap COMMAND [PRESET] --help` lists them.
"""

_COMMANDS = "regioncap.experiments.commands"
_WHERE = {
    "extract": "extract:extract_command",
    "tune": "tune:tune_command",
    "explain": "explain:explain_command",
    "measure-steering": "steering:measure_steering_command",
    "measure-words": "words:measure_words_command",
    "robustness": "robustness:robustness_command",
    "sweep-search": "search:sweep_search_command",
    "pretrain-decoder": "language:pretrain_command",
    "distil": "distil:distil_command",
    "self-critical": "self_critical:self_critical_command",
    "score": "metrics:score_command",
    "report": "report:report_command",
    "compare": "compare:compare_runs_command",
    "tables": "tables:tables_command",
    "figures": "figures:figures_command",
    "bench": "bench:bench_command",
    "profile": "profile:profile_command",
    "dashboard": "dashboard:dashboard_command",
    "data": "data:data_command",
    "metrics": "metrics:metrics_command",
    "train-detector": "detector:detector_command",
}
"""Command -> module and function of it, imported when it is called."""
_STUDY = ("ablate", "train", "evaluate", "caption", "train-scenes-encoders")
COMMANDS = (*_STUDY, *_WHERE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. What a user can mend is one line on stderr, without a traceback."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return fail(f"no command {name!r}; there are {', '.join(COMMANDS)}")
    try:
        return _run(name, rest)
    except KeyboardInterrupt:
        return fail("interrupted; what is finished is kept, --resume goes on from it")
    except BrokenPipeError as error:
        if not _reader_left():
            return fail(str(error))  # some other pipe, of a process of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 128 + signal.SIGPIPE
    except UnreachableError as error:
        return fail(str(error), error.exit_status)
    except (ValueError, JavaWorkerError, OSError) as error:
        # Everything that a user can mend is raised as one of these, with a message that names the file or the field.
        return fail(str(error))


def _reader_left() -> bool:
    """Whether nobody reads what is written on stdout any more, as behind `| head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _run(name: str, arguments: Sequence[str]) -> int:
    """Import what the command needs, and no more: PyTorch takes seconds, which scoring does not."""
    if name in _STUDY:
        from regioncap.experiments.commands.study import study_command

        return study_command(name, arguments)
    module, function = _WHERE[name].split(":")
    command: Callable[[Sequence[str]], int] = getattr(import_module(f"{_COMMANDS}.{module}"), function)
    return command(arguments)


if __name__ == "__main__":  # as `accelerate launch -m` starts it
    sys.exit(main())
