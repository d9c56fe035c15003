import math

import pytest
import torch

from regioncap.encoders.detection.attributes import AttributeHead, AttributeHeadConfig, NoAttributesConfig

CONFIG = AttributeHeadConfig(
    words=("red", "big", "blue", "small", "green"),
    groups=("colour", "size", "colour", "size", "colour"),
    class_dim=3,
    hidden=7,
)
COLOURS, SIZES = [0, 2, 4], [1, 3]


def head() -> AttributeHead:
    torch.manual_seed(0)
    return CONFIG.build(6, 4)


def logits_of(module: AttributeHead, features: torch.Tensor, labels: torch.Tensor) -> list[list[float]]:
    rows = []
    for feature, label in zip(features, labels, strict=True):
        x = torch.cat([feature, module.class_embedding.weight[label]])
        hidden = torch.relu(module.layers[0].weight @ x + module.layers[0].bias)
        rows.append((module.layers[2].weight @ hidden + module.layers[2].bias).tolist())
    return rows


GROUPS = ((COLOURS, 5), (SIZES, 6))
"""Words of a group, and the place of the group's own logit behind the words'."""


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_probabilities_are_a_softmax_in_every_group_times_that_of_the_group() -> None:
    module, features, labels = head(), torch.randn(3, 6), torch.tensor([0, 3, 1])
    got = module(features, labels)
    for row, logits in zip(got.tolist(), logits_of(module, features, labels), strict=True):
        for own, group in GROUPS:
            total = sum(math.exp(logits[i]) for i in own)
            wanted = [sigmoid(logits[group]) * math.exp(logits[i]) / total for i in own]
            assert [row[i] for i in own] == pytest.approx(wanted, abs=1e-5)


def test_loss_counts_words_where_one_is_said_and_groups_everywhere() -> None:
    """A slow loop: a mean over (region, group) pairs, the target shared among a group's said words."""
    module, features, labels = head(), torch.randn(4, 6), torch.tensor([0, 3, 1, 1])
    said = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]]).bool()
    words, groups = [], []
    for logits, row in zip(logits_of(module, features, labels), said.tolist(), strict=True):
        for own, group in GROUPS:
            chosen = [i for i in own if row[i]]
            groups.append(-math.log(sigmoid(logits[group] if chosen else -logits[group])))
            if chosen:
                total = math.log(sum(math.exp(logits[i]) for i in own))
                words.append(sum(total - logits[i] for i in chosen) / len(chosen))
    assert (len(words), len(groups)) == (4, 8)
    loss = module.losses(features, labels, said)["loss_attributes"]
    assert float(loss.detach()) == pytest.approx(sum(words) / 4 + sum(groups) / 8, rel=1e-4)


def test_an_unsaid_group_teaches_silence_and_no_word() -> None:
    module, features = head(), torch.randn(2, 6)
    said = torch.tensor([[1, 0, 0, 0, 0], [0, 0, 1, 0, 0]]).bool()
    module.losses(features, torch.tensor([0, 1]), said)["loss_attributes"].backward()
    gradient = module.layers[2].bias.grad
    assert (gradient[SIZES] == 0).all()
    assert (gradient[COLOURS] != 0).all()
    assert gradient[5] < 0 < gradient[6]  # colours are spoken of, sizes are not


def test_no_region_is_no_loss() -> None:
    module = head()
    said = torch.zeros(0, 5, dtype=torch.bool)
    loss = module.losses(torch.randn(0, 6), torch.zeros(0, dtype=torch.long), said)["loss_attributes"]
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_the_class_matters() -> None:
    module, features = head(), torch.randn(1, 6)
    assert not torch.equal(module(features, torch.tensor([0])), module(features, torch.tensor([2])))


def test_null_stage_names_and_learns_nothing() -> None:
    module = NoAttributesConfig().build(6, 4)
    assert NoAttributesConfig().words == ()
    assert list(module.parameters()) == []
    assert module(torch.randn(2, 6), torch.tensor([0, 1])).shape == (2, 0)
    assert module.losses(torch.randn(2, 6), torch.tensor([0, 1]), torch.zeros(2, 0, dtype=torch.bool)) == {}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"words": (), "groups": ()}, "words"),
        ({"groups": ("colour",)}, "groups"),
        ({"words": ("red", "red"), "groups": ("colour", "colour")}, "words"),
        ({"class_dim": 0}, "class_dim"),
        ({"hidden": 0}, "hidden"),
    ],
)
def test_bad_config_names_the_field(change: dict[str, object], field: str) -> None:
    options = {"words": ("red", "blue"), "groups": ("colour", "colour")} | change
    with pytest.raises(ValueError, match=rf"detector\.attributes\.{field}"):
        AttributeHeadConfig(**options)
