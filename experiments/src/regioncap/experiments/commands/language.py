"""The command that gives a decoder its language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regioncap.experiments.commands.parsing import fail, parse
from regioncap.experiments.commands.preset import chosen_data
from regioncap.experiments.data.sources import ScenesSource
from regioncap.experiments.pretrain import PretrainOptions, pretrain_decoder


@dataclass(frozen=True, kw_only=True)
class PretrainDecoderCommand(PretrainOptions):
    """Teach a small GPT-2 its language from captions of other pictures, before it sees any image.

    Makes a folder for the study:

      regioncap pretrain-decoder captions.txt --data.root DIR --out runs/decoder
      regioncap train photos --data.root DIR --decoder.weights runs/decoder

    Give --data.root, so that the vocabulary is that of the training captions. A share of the text's pictures is held
    out; its perplexity is measured before, ten times on the way, and the best weights are kept. A call that was killed
    goes on when it is made again, to the same weights. The captioner takes the folder's size and tokenizer: its own
    --decoder.layers, .heads, .width, .positions and --vocabulary.kind, .min-count, .size have no say then, and its
    --data.text.captions must be what it was here.
    """


def pretrain_command(arguments: Sequence[str]) -> int:
    """Pre-train a decoder and say what came of it."""
    source, rest = chosen_data(arguments)
    if isinstance(source, ScenesSource):
        raise ValueError(
            "--data scenes: the decoder of scenes learns its language with them; name photographs, or none"
        )
    default = None
    if source is not None:
        # Without a first word that is a file there is no command, whatever the data: the parser says what is missing.
        captions = next((Path(word) for word in rest if not word.startswith("-")), None)
        default = None if captions is None else PretrainDecoderCommand(captions=captions, data=source)
    command = parse(PretrainDecoderCommand, "regioncap pretrain-decoder", rest, default)
    try:
        record = pretrain_decoder(command)
    except KeyboardInterrupt:
        return fail("interrupted; the same command goes on from the last checkpoint")
    print(_summary(command, record))
    return 0


def _summary(options: PretrainOptions, record: Mapping[str, Any]) -> str:
    before, after = record["perplexity"]["before"], record["perplexity"]["after"]
    captions = record["captions"]
    return "\n".join(
        (
            f"Held-out perplexity per word {before['word']:.1f} -> {after['word']:.2f}, per token "
            f"{before['token']:.1f} -> {after['token']:.2f}, at step {record['best_step']} of {record['steps']} "
            f"({record['cpu_s']:.0f} CPU s; {captions['learned']} captions, {captions['held_out']} held out; "
            f"vocabulary {record['vocabulary']}; {record['parameters'] / 1e6:.1f} M parameters)",
            f"To use it: regioncap train photos --data.root DIR --decoder.weights {options.out}",
        )
    )
