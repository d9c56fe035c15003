"""A case and its peers in turns: one record, with how much longer each peer takes."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from regioncap.experiments.benchmarking.case import Benchmark, Case, Work, recorded
from regioncap.experiments.benchmarking.flops import count_flops
from regioncap.experiments.benchmarking.measure import CLOCK, Call, Rounds, synchronised
from regioncap.experiments.benchmarking.memory import peak_mib
from regioncap.experiments.benchmarking.record import StageRecord


def run_beside(benchmark: Benchmark, case: Case, work: Work, peers: Mapping[str, Call]) -> StageRecord:
    """Time `work` by the fixture, each round right after one of every peer, and keep the record with the fixture.

    `work` is what `case` makes: the caller has built it, since peers often share its parts. There are as many rounds as
    `case.rounds` has at least. Nothing is warmed up but `work`, whose FLOPs are counted: these calls take seconds, and
    a median of three rounds or more does not heed the first. The test wants `@pytest.mark.benchmark(timer=CLOCK)`.
    Raises ValueError if a peer is called "ours".
    """
    if "ours" in peers:
        raise ValueError('a peer cannot be called "ours": that is the case itself')
    torch.set_num_threads(1)
    flops = count_flops(work.call)
    seconds: dict[str, list[float]] = {name: [] for name in peers}

    def peers_turn() -> None:
        for name, call in peers.items():
            started = CLOCK()
            synchronised(call)
            seconds[name].append(CLOCK() - started)

    benchmark.group = case.stage
    benchmark.pedantic(
        lambda: synchronised(work.call), rounds=case.rounds[0], warmup_rounds=0, setup=peers_turn if peers else None
    )
    own = list(benchmark.stats.stats.data)
    rounds = Rounds(seconds=seconds | {"ours": own})
    record = replace(
        recorded(case, work, own, flops=flops),
        ratios=tuple(rounds.ratio(name, "ours") for name in peers),
        peak_mib=peak_mib(case.make, *case.arguments) if case.memory else None,
    )
    benchmark.extra_info["record"] = record.to_dict()
    return record
