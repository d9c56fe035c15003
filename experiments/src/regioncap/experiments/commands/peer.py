"""`regioncap evaluate hf:NAME_OR_FOLDER`: a published captioner in the place of a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from regioncap.decoder import SearchConfig
from regioncap.experiments.commands.evaluated import print_scores
from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.peers.evaluate import PeerOptions, evaluate_peer
from regioncap.experiments.peers.hf_captioner import PREFIX, hf_search


@dataclass(frozen=True, kw_only=True)
class EvaluatePeerCommand:
    """Caption a split with a captioner of transformers (BLIP, BLIP-2, GIT, ViT-GPT2) and score it as our own."""

    captioner: tyro.conf.Positional[str]
    """hf: and a hub's name, or a folder that save_pretrained wrote."""
    options: Annotated[PeerOptions, tyro.conf.arg(name="")] = field(default_factory=PeerOptions)
    search: SearchConfig = field(default_factory=hf_search)
    """Beams, lengths and penalties; what transformers cannot follow is refused."""


def evaluate_peer_command(arguments: Sequence[str]) -> int:
    """Evaluate and print the table."""
    command = parse(EvaluatePeerCommand, "regioncap evaluate", arguments)
    scores = evaluate_peer(command.captioner.removeprefix(PREFIX), command.options, command.search)
    print_scores(scores, command.captioner, command.options.split)
    return 0
