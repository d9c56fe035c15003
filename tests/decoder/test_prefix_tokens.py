import itertools
from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from regioncap.decoder import Gpt2DecoderConfig, Prefix, SearchConfig, TokenPrefixConfig, Wording, search
from regioncap.decoder.prefix_tokens import TokenKind, TokenPrefix, most_told

B, N, M, W, K, D, H, WORDS = 3, 4, 2, 2, 3, 6, 8, 9
KINDS: tuple[TokenKind, ...] = ("regions", "scene", "detail", "top_detail", "keywords")
GUIDED = pytest.mark.parametrize("guided", [True, False])
DEFAULT = TokenPrefixConfig(hidden=16)
ALL = TokenPrefixConfig(hidden=16, tokens=2, kinds=KINDS, top=3, boxes=True)
MIXES = [TokenPrefixConfig(hidden=16, kinds=mix) for n in range(5) for mix in itertools.combinations(KINDS, n)]
MIXES += [
    ALL,
    replace(ALL, tokens=0),
    replace(ALL, tokens=1, injection="every_position"),
    TokenPrefixConfig(tokens=0, kinds=("regions",)),
    TokenPrefixConfig(tokens=0, kinds=("top_detail", "regions"), top=3),
]
MIX = pytest.mark.parametrize(
    "config", MIXES, ids=lambda c: f"{c.tokens} {c.injection} {'+'.join(c.kinds)}{' boxes' * c.boxes}"
)


def boundary(*, guided: bool, regions: int = N, seed: int = 1) -> dict[str, torch.Tensor]:
    """What graph and guidance hand over; zero in padding, as they leave it."""
    torch.manual_seed(seed)
    valid = torch.arange(regions) < torch.tensor([[regions], [regions - 1], [1]])
    told = valid[..., None] if guided else valid[:, :0, None]
    weights = torch.rand(B, told.shape[1], W) * told
    words = K if guided else 0
    return {
        "fused": torch.randn(B, D),
        "scene": torch.randn(B, D),
        "detail": torch.randn(B, D),
        "regions": torch.randn(B, regions, D) * valid[..., None],
        "region_valid": valid,
        "region_detail": torch.randn(B, told.shape[1], D) * told,
        "scene_tokens": torch.randn(B, M if guided else 0, D),
        "region_boxes": torch.rand(B, regions, 4),
        "detail_tokens": torch.randn(B, told.shape[1], W, D) * weights[..., None],
        "detail_words": torch.randint(0, WORDS, (B, told.shape[1], W)) * told,
        "detail_weights": weights,
        "keyword_embeddings": torch.randn(B, words, H),
        "keyword_scores": torch.rand(B, words),
        "keyword_valid": (torch.rand(B, words) > 0.4).index_fill(1, torch.tensor([0])[:words], True),
    }


def built(config: TokenPrefixConfig, *, guided: bool) -> TokenPrefix:
    """With what starts at zero moved, as after training."""
    stage = config.build(D, H, guided=guided)
    with torch.no_grad():
        for name, parameter in stage.named_parameters():
            if name.startswith("keyword"):
                parameter.normal_()
    return stage


def linear(layer: nn.Linear, x: list[float]) -> list[float]:
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def slow_token(layer: nn.Linear, typed: nn.Module, x: list[float]) -> list[float]:
    projected = linear(layer, x)
    mean = sum(projected) / len(projected)
    spread = (sum((v - mean) ** 2 for v in projected) / len(projected) + 1e-5) ** 0.5
    pairs = zip(projected, typed.scale.tolist(), typed.kind.tolist(), strict=True)
    return [(v - mean) / spread * s + k for v, s, k in pairs]


def slow_top(given: dict[str, torch.Tensor], b: int, count: int) -> list[list[float]]:
    weights: dict[int, float] = defaultdict(float)
    vectors: dict[int, list[float]] = defaultdict(lambda: [0.0] * D)
    for i in range(given["detail_words"].shape[1]):
        for j in range(W):
            word, weight = int(given["detail_words"][b, i, j]), float(given["detail_weights"][b, i, j])
            if weight > 0:
                weights[word] += weight
                vectors[word] = [a + v for a, v in zip(vectors[word], given["detail_tokens"][b, i, j].tolist())]  # noqa: B905
    return [vectors[word] for word in sorted(weights, key=lambda word: -weights[word])[:count]]


def slow_tokens(stage: TokenPrefix, config: TokenPrefixConfig, given: dict[str, torch.Tensor], b: int, guided: bool):
    """The real tokens after the fused ones, one at a time."""
    real = [i for i in range(given["regions"].shape[1]) if given["region_valid"][b, i]]
    for kind in config.kinds:
        if kind == "regions":
            for i in real:
                x = given["regions"][b, i].tolist() + (given["region_detail"][b, i].tolist() if guided else [])
                if config.boxes:
                    x0, y0, x1, y1 = given["region_boxes"][b, i].tolist()
                    x += [x0, y0, x1, y1, (x1 - x0) * (y1 - y0)]
                yield slow_token(stage.region, stage.region_type, x)
        elif kind == "scene" and guided:
            for j in range(M):
                yield slow_token(stage.word, stage.word_type, given["scene_tokens"][b, j].tolist())
        elif kind == "detail" and guided:
            for i in real:
                for j in range(W):
                    yield slow_token(stage.detail, stage.detail_type, given["detail_tokens"][b, i, j].tolist())
        elif kind == "top_detail" and guided:
            for x in slow_top(given, b, config.top):
                yield slow_token(stage.top_detail, stage.top_detail_type, x)
        elif kind == "keywords" and guided:
            for k in range(K):
                if given["keyword_valid"][b, k]:
                    score = float(given["keyword_scores"][b, k])
                    rows = (given["keyword_embeddings"][b, k], stage.keyword_score, stage.keyword_kind)
                    yield [x + score * w + e for x, w, e in zip(*(row.tolist() for row in rows), strict=True)]


@MIX
@GUIDED
def test_tokens_follow_their_equations_in_the_order_of_their_kinds(config: TokenPrefixConfig, guided: bool):
    stage, given = built(config, guided=guided), boundary(guided=guided)
    out = stage(**given)
    before = config.tokens if config.injection == "prefix" else 0
    if config.tokens:
        told = torch.cat([given["fused"], given["scene"], given["detail"]], -1) if guided else given["fused"]
        fused = stage.mlp(told)
        torch.testing.assert_close(out.embeddings[:, :before], fused[:, :before])
        assert (out.added is None) == (config.injection == "prefix")
        if out.added is not None:
            torch.testing.assert_close(out.added, fused[:, 0])
    for b in range(B):
        want = torch.tensor(list(slow_tokens(stage, config, given, b, guided))).view(-1, H)
        torch.testing.assert_close(out.embeddings[b, before:][out.valid[b, before:]], want, rtol=1e-4, atol=1e-5)
    assert (out.embeddings[~out.valid] == 0).all()


@MIX
@GUIDED
def test_gradient_reaches_every_parameter(config: TokenPrefixConfig, guided: bool):
    stage = config.build(D, H, guided=guided)
    out = stage(**boundary(guided=guided))
    loss = (out.embeddings * torch.randn_like(out.embeddings)).sum()
    if out.added is not None:
        loss = loss + (out.added * torch.randn_like(out.added)).sum()
    loss.backward()
    for name, parameter in stage.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@GUIDED
def test_padding_and_batch_mates_change_nothing(guided: bool):
    stage, given = ALL.build(D, H, guided=guided), boundary(guided=guided)
    whole, padding = stage(**given), ~given["region_valid"]
    spoilt = dict(given, regions=given["regions"] + 9.0 * padding[..., None])
    spoilt["region_boxes"] = given["region_boxes"] + 9.0 * padding[..., None]
    spoilt["keyword_embeddings"] = given["keyword_embeddings"] + 9.0 * ~given["keyword_valid"][..., None]
    spoilt["keyword_scores"] = given["keyword_scores"] + 9.0 * ~given["keyword_valid"]
    assert torch.equal(stage(**spoilt).embeddings, whole.embeddings)
    for b in range(B):
        alone = stage(**{name: x[b : b + 1] for name, x in given.items()})
        torch.testing.assert_close(alone.embeddings[0][alone.valid[0]], whole.embeddings[b][whole.valid[b]])


@GUIDED
def test_permuting_regions_permutes_their_tokens(guided: bool):
    stage, given = ALL.build(D, H, guided=guided), boundary(guided=guided)
    order = torch.tensor([2, 0, 3, 1])
    names = ["regions", "region_valid", "region_boxes"]
    names += ["region_detail", "detail_tokens", "detail_words", "detail_weights"] if guided else []
    straight, permuted = stage(**given), stage(**(given | {name: given[name][:, order] for name in names}))
    slots = torch.arange(straight.valid.shape[1])
    slots[2 : 2 + N] = 2 + order
    if guided:
        start = 2 + N + M
        slots[start : start + N * W] = start + (order[:, None] * W + torch.arange(W)).flatten()
    torch.testing.assert_close(permuted.embeddings, straight.embeddings[:, slots])
    assert torch.equal(permuted.valid, straight.valid[:, slots])


@MIX
@GUIDED
def test_slots_name_every_slot(config: TokenPrefixConfig, guided: bool):
    out = config.build(D, H, guided=guided)(**boundary(guided=guided))
    counts = {"regions": N, "scene": M, "detail": N * W, "keywords": K}
    kinds = [kind for kind in config.kinds if guided or kind == "regions"]
    fused = config.tokens if config.injection == "prefix" else 0
    assert sum(count for _, count in out.slots) == out.valid.shape[1]
    assert [kind for kind, _ in out.slots] == [*(["fused"] if fused else []), *kinds]
    assert all(count == {**counts, "fused": fused}.get(kind, count) for kind, count in out.slots)


def test_permuting_keywords_permutes_their_tokens_and_any_number_will_do():
    config = TokenPrefixConfig(hidden=16, kinds=("keywords",))
    stage, given = built(config, guided=True), boundary(guided=True)
    names = ("keyword_embeddings", "keyword_scores", "keyword_valid")
    straight = stage(**given)
    permuted = stage(**(given | {name: given[name][:, [2, 0, 1]] for name in names}))
    assert torch.equal(permuted.embeddings, straight.embeddings[:, [0, 3, 1, 2]])
    assert torch.equal(permuted.valid, straight.valid[:, [0, 3, 1, 2]])
    for count in (0, 1, 7):
        many = {name: given[name].repeat(1, 3, *[1] * (given[name].dim() - 2))[:, :count] for name in names}
        assert stage(**(given | many)).slots == (("fused", 1), *((("keywords", count),) if count else ()))


def test_an_untrained_keyword_is_the_word_itself():
    given = boundary(guided=True)
    out = TokenPrefixConfig(tokens=0, kinds=("keywords",)).build(D, H, guided=True)(**given)
    assert torch.equal(out.embeddings, given["keyword_embeddings"] * given["keyword_valid"][..., None])


@pytest.mark.parametrize(
    "config", [ALL, replace(ALL, tokens=1, injection="every_position")], ids=["prefix", "every_position"]
)
@pytest.mark.parametrize("beams", [1, 3])
def test_captions_of_a_batch_equal_those_one_by_one(config: TokenPrefixConfig, beams: int):
    """Through the decoder, with regions padded in front of the words that follow them."""
    torch.manual_seed(3)
    stage = config.build(D, H, guided=True)
    decoder = Gpt2DecoderConfig(layers=2, heads=2, width=H, positions=48, dropout=0.0)
    decoder = decoder.build(20, bos=1, eos=2, pad=0).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(8 if parameter.dim() == 2 else 1)
    looked_for = SearchConfig(greedy_tokens=0, beams=beams, max_new_tokens=7)

    def found(given: dict[str, torch.Tensor]) -> list[tuple[list[int], float]]:
        with torch.no_grad():
            prefix = stage(**given)
        captions = search(
            decoder.incremental(), prefix.embeddings, prefix.valid, looked_for, Wording(suppress=(0, 1)), prefix.added
        )
        rows = zip(*(x[:, 0].tolist() for x in (captions.tokens, captions.lengths, captions.scores)), strict=True)
        return [(row[:length], score) for row, length, score in rows]

    given = boundary(guided=True, seed=5)
    whole = found(given)
    assert len({tuple(tokens) for tokens, _ in whole}) > 1
    for b in range(B):
        real = int(given["region_valid"][b].sum())
        one = {name: x[b : b + 1] for name, x in given.items()}
        own = {"regions", "region_valid", "region_detail", "region_boxes"} | {
            name for name in given if name.startswith("detail_")
        }
        ((tokens, score),) = found({name: x[:, :real] if name in own else x for name, x in one.items()})
        assert tokens == whole[b][0]
        assert score == pytest.approx(whole[b][1], abs=1e-5)


@GUIDED
def test_no_regions_and_no_words_just_work(guided: bool):
    stage, given = ALL.build(D, H, guided=guided), boundary(guided=guided)
    empty = dict(
        given,
        **{name: given[name][:, :0] for name in given if name not in ("fused", "scene", "detail")},
    )
    out = stage(**empty)
    assert isinstance(out, Prefix)
    assert out.embeddings.shape == (B, 2, H)


@settings(max_examples=60, deadline=None)
@drawn(seed=st.integers(0, 999), count=st.integers(1, 12), regions=st.integers(1, 6))
def test_most_told_words_are_those_of_the_slow_loop(seed: int, count: int, regions: int):
    given = boundary(guided=True, regions=regions, seed=seed)
    vectors, real = most_told(given["detail_words"], given["detail_weights"], given["detail_tokens"], count)
    assert real.shape[1] <= count
    for b in range(B):
        want = torch.tensor(slow_top(given, b, count)).view(-1, D)
        torch.testing.assert_close(vectors[b][real[b]], want, rtol=1e-4, atol=1e-5)
        assert not vectors[b][~real[b]].any()
        assert real[b].tolist() == sorted(real[b].tolist(), reverse=True)  # real ones first


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": 1},
        {"hidden": 17},
        {"tokens": 1, "injection": "every_position"},
        {"kinds": ("scene", "regions", "detail", "top_detail", "keywords")},
        {"top": 2},
        {"boxes": False},
    ],
)
def test_every_field_is_read(change: dict[str, object]):
    def outcome(config: TokenPrefixConfig) -> list[object]:
        torch.manual_seed(0)
        stage = config.build(D, H, guided=True)
        out = stage(**boundary(guided=True))
        return [[p.shape for p in stage.parameters()], out.embeddings.tolist(), out.added is None]

    base = replace(ALL, tokens=1) if "injection" in change else ALL
    assert outcome(replace(ALL, **change)) != outcome(base)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"prefix\.tokens must be at least 0, got -1"):
        TokenPrefixConfig(tokens=-1)
    with pytest.raises(ValueError, match=r"prefix\.hidden must be at least 1, got 0"):
        TokenPrefixConfig(hidden=0)
    with pytest.raises(ValueError, match=r"prefix\.tokens is 0: set it to 1"):
        TokenPrefixConfig(tokens=0, injection="every_position")
    with pytest.raises(ValueError, match=r"prefix\.kinds must name each kind once, got scene, scene"):
        TokenPrefixConfig(kinds=("scene", "scene"))
    with pytest.raises(ValueError, match=r"prefix\.top must be at least 1, got 0"):
        TokenPrefixConfig(top=0)
    with pytest.raises(ValueError, match=r"prefix\.kinds has no regions: add them"):
        TokenPrefixConfig(kinds=("scene",), boxes=True)
    with pytest.raises(ValueError, match=r"\(scene\) gives no tokens without guidance: nothing of the image"):
        TokenPrefixConfig(tokens=0, kinds=("scene",)).build(D, H, guided=False)
    with pytest.raises(ValueError, match="guided=False and got 4 detail vectors"):
        DEFAULT.build(D, H, guided=False)(**boundary(guided=True))
    with pytest.raises(ValueError, match="guided=True and got 0 detail vectors"):
        DEFAULT.build(D, H, guided=True)(**boundary(guided=False))
    seven = dict(itertools.islice(boundary(guided=True).items(), 7))
    DEFAULT.build(D, H, guided=True)(**seven)
    for config, name in (
        (replace(DEFAULT, boxes=True), "region_boxes"),
        (replace(DEFAULT, kinds=("detail",)), "detail_tokens"),
        (replace(DEFAULT, kinds=("top_detail",)), "detail_words"),
        (replace(DEFAULT, kinds=("keywords",)), "keyword_valid"),
    ):
        with pytest.raises(ValueError, match=f"this prefix reads {name}, but was called without"):
            config.build(D, H, guided=True)(**seven)
