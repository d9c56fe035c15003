"""Run by test_compile.py in a process of its own: pytest's type hook cannot be compiled.

Prints one JSON line: for each case, how far the compiled stage is from the eager one.
"""

import json
import math
import sys
from dataclasses import replace

import torch

from regioncap.graph import GRAPH_PRESETS, knn_graph, relations

FORMS = {"dense": 10**9, "lists": 0}
"""What `relations.DENSE_UP_TO` is set to, so that one size takes both forms."""


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    regions, raw = torch.randn(2, 30, 16), torch.randn(2, 30, 12)
    boxes = torch.rand(2, 30, 2, 2).sort(dim=2).values.flatten(2)
    valid = torch.ones(2, 30, dtype=torch.bool)
    valid[1, 25:] = False
    return regions, raw, boxes, valid


def difference(preset: str, form: str, metric: str, backend: str) -> float:
    """The largest difference of features, attention and any gradient."""
    relations.DENSE_UP_TO = FORMS[form]
    stage = replace(GRAPH_PRESETS[preset], metric=metric, k=4).build(16)  # type: ignore[arg-type]
    torch._dynamo.reset()
    found = []
    for call in (stage, torch.compile(stage, backend=backend, fullgraph=True)):
        stage.zero_grad()
        regions, *others = inputs()
        enhanced = call(regions.requires_grad_(), *others)
        seen = torch.linspace(-1, 1, enhanced.features.numel()).view(enhanced.features.shape)
        (enhanced.features * seen).sum().backward()
        grads = [parameter.grad for parameter in stage.parameters()]
        found.append([enhanced.features, enhanced.attention, enhanced.edges, regions.grad, *grads])
    eager, compiled = found
    return max((a - b).abs().max().item() for a, b in zip(eager, compiled, strict=True))


def refusal() -> str:
    """What compiled code says of a NaN."""
    _, raw, boxes, valid = inputs()
    compiled = torch.compile(knn_graph, backend="aot_eager", fullgraph=True)
    compiled(raw, boxes, valid)
    raw[0, 3, 1] = math.nan
    try:
        compiled(raw, boxes, valid)
    except RuntimeError as error:
        return str(error)
    return "nothing"


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = [case.split() for case in sys.argv[1:]]
    print(json.dumps({"difference": [difference(*case) for case in cases], "refusal": refusal()}))
