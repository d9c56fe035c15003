"""A gated bias on the words that are not said yet, against slow loops from its equation."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from regioncap.decoder import (
    Gpt2Decoder,
    Gpt2DecoderConfig,
    IncrementalGpt2,
    LoraConfig,
    SearchConfig,
    Wording,
    search,
)
from regioncap.decoder.word_bias import Fed, GatedWordBias, GatedWordBiasConfig, NoWordBias, NoWordBiasConfig, Unsaid

V, H, P, C, T, B, PAD, BOS, EOS = 30, 32, 4, 3, 8, 4, 3, 1, 2
GATED = GatedWordBiasConfig()
UNSAID = Wording(suppress=(BOS, PAD))
PLAIN = SearchConfig(greedy_tokens=0, beams=3, max_new_tokens=9)
EVERY = pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        replace(PLAIN, greedy_tokens=2),
        replace(PLAIN, beams=1),
        replace(PLAIN, beams=5, captions=5),
        replace(PLAIN, captions=3, diversity=1.0),
        replace(PLAIN, method="sample", top_p=0.95, seed=5, captions=4),
    ],
    ids=["beam", "hybrid", "greedy", "n-best", "diverse", "samples"],
)


def small(seed: int = 0, word_bias: GatedWordBiasConfig | NoWordBiasConfig = GATED) -> Gpt2Decoder:
    """Random weights large enough that captions vary and end early or late, and a gate that differs by step."""
    torch.manual_seed(seed)
    config = Gpt2DecoderConfig(layers=2, heads=2, width=H, positions=48, dropout=0.0, word_bias=word_bias)
    decoder = config.build(V, bos=BOS, eos=EOS, pad=PAD).eval()
    with torch.no_grad():
        for parameter in decoder.model.parameters():
            parameter.mul_(6 if parameter.dim() == 2 else 1)
        loud = decoder.model.transformer.wte.weight[EOS]
        decoder.model.transformer.ln_f.bias.copy_(loud / loud.square().sum())
        if isinstance(decoder.word_bias, GatedWordBias):
            decoder.word_bias.gate.normal_(0, 3, generator=torch.Generator().manual_seed(seed))
            decoder.word_bias.log_scale.fill_(0.7)
    return decoder


def prefixes(seed: int = 7, images: int = B) -> tuple[Tensor, Tensor, Tensor]:
    """Prefixes with holes, and a bias on about a third of the words, some of it against them."""
    torch.manual_seed(seed)
    valid = torch.rand(images, P) > 0.3
    valid[:, 0] = True
    bias = torch.randn(images, V) * 4 * (torch.rand(images, V) > 0.6)
    return torch.randn(images, P, H) * valid[..., None], valid, bias


def captions(seed: int = 8) -> tuple[Tensor, Tensor]:
    """Of few words, so that they are said again; bos before them."""
    torch.manual_seed(seed)
    tokens = F.pad(torch.randint(4, 10, (B, C, T - 1)), (1, 0), value=BOS)
    return tokens, torch.arange(T) < torch.randint(2, T + 1, (B, C, 1))


def slow_logits(decoder: Gpt2Decoder, prefix: Tensor, valid: Tensor, bias: Tensor, tokens: list[int]) -> Tensor:
    """Of one image and the words fed so far, by transformers' forward, a token's bias at a time."""
    words = decoder.model.transformer.wte(torch.tensor(tokens))
    out = decoder.model.transformer(inputs_embeds=torch.cat([prefix[valid], words])[None])
    hidden = out.last_hidden_state[0, -1]
    logits = decoder.model.lm_head(hidden).tolist()
    gate = decoder.word_bias
    dot = math.fsum(w * h for w, h in zip(gate.gate.tolist(), hidden.tolist(), strict=True)) / math.sqrt(len(hidden))
    opened = 1 / (1 + math.exp(-(dot + float(gate.gate_bias))))
    for word in range(V):
        if word not in tokens:
            logits[word] += math.exp(float(gate.log_scale)) * opened * float(bias[word])
    return torch.tensor(logits)


@torch.no_grad()
def test_logits_of_whole_captions_follow_the_equation():
    decoder, (prefix, valid, bias), (tokens, mask) = small(), prefixes(), captions()
    logits = decoder(prefix, valid, tokens, mask, bias=bias)
    plain = decoder(prefix, valid, tokens, mask)
    assert not torch.allclose(logits, plain, atol=0.5)
    assert (logits[~mask] == 0).all()
    for b in range(B):
        for c in range(C):
            for t in range(int(mask[b, c].sum())):
                want = slow_logits(decoder, prefix[b], valid[b], bias[b], tokens[b, c, : t + 1].tolist())
                torch.testing.assert_close(logits[b, c, t], want, rtol=1e-4, atol=1e-4)


def test_losses_are_those_of_the_biased_logits():
    decoder, (prefix, valid, bias), (tokens, mask) = small(), prefixes(), captions()
    logits = decoder(prefix, valid, tokens[..., :-1], mask[..., 1:], bias=bias)
    want = F.cross_entropy(logits.flatten(0, 2), tokens[..., 1:].flatten(), reduction="none").view(B, C, T - 1)
    losses = decoder.token_losses(prefix, valid, tokens, mask, bias=bias)
    torch.testing.assert_close(losses, want * mask[..., 1:])
    torch.testing.assert_close(decoder.loss(prefix, valid, tokens, mask, bias=bias), want[mask[..., 1:]].mean())


@torch.no_grad()
def test_greedy_search_equals_a_slow_teacher_forced_loop():
    for seed in range(3):
        decoder, (prefix, valid, bias) = small(seed), prefixes(seed)
        found = search(decoder.incremental(), prefix, valid, replace(PLAIN, beams=1), UNSAID, bias=bias)
        plain = search(decoder.incremental(), prefix, valid, replace(PLAIN, beams=1), UNSAID)
        assert not torch.equal(found.tokens, plain.tokens)
        for b in range(B):
            said = [BOS]
            while len(said) <= 9 and said[-1] != EOS:
                logits = slow_logits(decoder, prefix[b], valid[b], bias[b], said)
                forbidden = [BOS, PAD] + ([EOS] if len(said) == 1 else [])
                logits[forbidden] = -torch.inf
                said.append(int(logits.argmax()))
            assert found.tokens[b, 0, : int(found.lengths[b, 0])].tolist() == said[1:]


@torch.no_grad()
def test_beams_equal_slow_beams():
    """Of one image, every continuation of every beam looked at; captions as long as may be, so that none ends."""
    decoder, (prefix, valid, bias) = small(1), prefixes(1)
    config = replace(PLAIN, max_new_tokens=4)
    found = search(decoder.incremental(), prefix, valid, config, Wording(suppress=(BOS, PAD, EOS)), bias=bias)
    for b in range(B):
        beams = [(0.0, [BOS])]
        for _ in range(4):
            longer = []
            for score, said in beams:
                logits = slow_logits(decoder, prefix[b], valid[b], bias[b], said)
                log_p = logits.log_softmax(-1)
                longer += [(score + float(log_p[v]), [*said, v]) for v in range(V) if v not in (BOS, PAD, EOS)]
            beams = sorted(longer, reverse=True)[:3]
        assert found.tokens[b, 0].tolist() == beams[0][1][1:]
        assert float(found.scores[b, 0]) * 4 == pytest.approx(beams[0][0], abs=1e-3)


@EVERY
def test_log_probabilities_of_search_are_those_of_training(config: SearchConfig):
    decoder, (prefix, valid, bias) = small(1), prefixes(images=5)
    found = search(decoder.incremental(), prefix, valid, config, UNSAID, bias=bias)
    said = torch.arange(found.tokens.shape[2]) < found.lengths[..., None]
    told, real = F.pad(found.tokens, (1, 0), value=BOS), F.pad(said, (1, 0), value=True)
    losses = decoder.token_losses(prefix, valid, told, real, bias=bias)
    torch.testing.assert_close(found.log_probs, -losses, rtol=1e-4, atol=1e-4)


@EVERY
def test_batched_search_equals_one_by_one(config: SearchConfig):
    """Though images leave the batch at different steps, each takes its own bias and words along."""
    decoder, (prefix, valid, bias) = small(2).incremental(), prefixes(images=6)
    whole = search(decoder, prefix, valid, config, UNSAID, bias=bias)
    assert len(set(whole.lengths.flatten().tolist())) > 1
    for b in range(6):
        one = slice(b, b + 1)
        alone = search(decoder, prefix[one], valid[one], config, UNSAID, keys=[b], bias=bias[one])
        length = alone.tokens.shape[2]
        assert torch.equal(alone.tokens[0], whole.tokens[b, :, :length])
        torch.testing.assert_close(alone.log_probs[0], whole.log_probs[b, :, :length], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_prompt_is_said():
    """Its words lose their bias before the first word."""
    decoder, (prefix, valid, bias) = small(), prefixes()
    bias[:, 7] = 50.0  # nothing else would be said first
    first = search(decoder.incremental(), prefix, valid, PLAIN, UNSAID, bias=bias).tokens[:, 0, 0]
    assert (first == 7).all()
    wording = replace(UNSAID, prompt=(7, 9))
    found = search(decoder.incremental(), prefix, valid, replace(PLAIN, prompt="by ids"), wording, bias=bias)
    logits, _ = decoder.incremental().prefill(prefix, valid, prompt=(7, 9), bias=bias)
    for b in range(B):
        torch.testing.assert_close(
            logits[b], slow_logits(decoder, prefix[b], valid[b], bias[b], [BOS, 7, 9]), rtol=1e-4, atol=1e-4
        )
    assert (found.tokens[:, 0, 0] != 7).any()


@torch.no_grad()
@pytest.mark.parametrize(("precision", "close"), [("bfloat16", 0.05), ("int8", 0.08)])
def test_coarse_arithmetic_stays_close(precision, close):
    decoder, (prefix, valid, bias) = small(), prefixes()
    exact, coarse = (decoder.incremental(p).prefill(prefix, valid, bias=bias)[0] for p in ("float32", precision))
    assert (coarse - exact).std() / exact.std() < close


def test_training_under_autocast_stays_close():
    decoder, (prefix, valid, bias), (tokens, mask) = small(), prefixes(), captions()
    exact = decoder.loss(prefix, valid, tokens, mask, bias=bias)
    with torch.autocast("cpu", torch.bfloat16):
        rough = decoder.loss(prefix, valid, tokens, mask, bias=bias)
        assert decoder(prefix, valid, tokens, mask, bias=bias).dtype == torch.float32
    assert rough.dtype == torch.float32
    assert abs(float(rough.detach() / exact.detach()) - 1) < 0.02


def test_gradients_equal_those_of_the_dense_form():
    """The equation over all tokens at once, of which autograd keeps every logit."""
    decoder, (prefix, valid, bias), (tokens, mask) = small(), prefixes(), captions()
    bias.requires_grad_()
    fed, real = tokens[..., :-1], mask[..., 1:]
    hidden = torch.zeros(B, C, T - 1, H)
    packed, order, kept = decoder._hidden(prefix, valid, fed, real, None)
    hidden = hidden.view(B, -1, H).index_put((kept.nonzero()[:, 0], order[kept]), packed).view(B, C, T - 1, H)
    gate = decoder.word_bias
    opened = torch.sigmoid((hidden @ gate.gate) / math.sqrt(H) + gate.gate_bias) * gate.log_scale.exp()
    said = torch.zeros(B, C, T - 1, V, dtype=torch.bool)
    for t in range(T - 1):
        said[:, :, t:] |= F.one_hot(fed[:, :, t], V).bool()[:, :, None]
    logits = decoder.model.lm_head(hidden) + opened[..., None] * bias[:, None, None] * ~said
    want = F.cross_entropy(logits[real], tokens[..., 1:][real])
    loss = decoder.loss(prefix, valid, tokens, mask, bias=bias)
    inputs = [bias, *decoder.parameters()]
    for ours, theirs in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(want, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_an_untrained_gate_lets_half_through_and_has_a_gradient_everywhere(autocast: bool):
    torch.manual_seed(0)
    config = Gpt2DecoderConfig(layers=1, heads=2, width=H, positions=48, word_bias=GatedWordBiasConfig())
    decoder = config.build(V, bos=BOS, eos=EOS, pad=PAD).train()
    (prefix, valid, bias), (tokens, mask) = prefixes(), captions()
    assert torch.equal(decoder.word_bias.strength(torch.randn(5, H)), torch.full((5,), 0.5))
    bias.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        decoder.loss(prefix, valid, tokens, mask, bias=bias).backward()
    for name, parameter in [("bias", bias), *decoder.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_rest_of_a_decoder_starts_from_the_same_numbers():
    def weights(word_bias: GatedWordBiasConfig | NoWordBiasConfig) -> dict[str, Tensor]:
        return small(word_bias=word_bias).model.state_dict()

    told, plain = weights(GatedWordBiasConfig()), weights(NoWordBiasConfig())
    assert all(torch.equal(told[name], plain[name]) for name in plain)


@pytest.mark.parametrize("seed", range(3))
def test_a_strength_is_a_bias_so_many_times_as_large(seed: int):
    decoder, (prefix, valid, bias) = small(seed), prefixes(seed)
    stronger = replace(PLAIN, word_strength=1.7)
    found = search(decoder.incremental(), prefix, valid, stronger, UNSAID, bias=bias)
    want = search(decoder.incremental(), prefix, valid, PLAIN, UNSAID, bias=bias * 1.7)
    assert torch.equal(found.tokens, want.tokens)
    assert torch.equal(found.scores, want.scores)
    silenced = search(decoder.incremental(), prefix, valid, replace(PLAIN, word_strength=0.0), UNSAID, bias=bias)
    assert torch.equal(silenced.tokens, search(decoder.incremental(), prefix, valid, PLAIN, UNSAID).tokens)
    assert not torch.equal(found.tokens, silenced.tokens)


@pytest.mark.parametrize("seed", range(3))
def test_a_bias_of_zero_is_none_and_the_null_stage_heeds_none(seed: int):
    decoder, plain = small(seed), small(seed, NoWordBiasConfig())
    (prefix, valid, bias), given = prefixes(), captions()
    want = plain(prefix, valid, *given)
    torch.testing.assert_close(decoder(prefix, valid, *given, bias=torch.zeros_like(bias)), want)
    assert torch.equal(decoder(prefix, valid, *given), want)
    assert torch.equal(plain(prefix, valid, *given, bias=bias), want)
    assert list(plain.word_bias.parameters()) == []
    found = [
        search(d.incremental(), prefix, valid, PLAIN, UNSAID, bias=b).tokens
        for d, b in ((plain, None), (plain, bias), (decoder, None), (decoder, torch.zeros_like(bias)))
    ]
    assert all(torch.equal(tokens, found[0]) for tokens in found)


def test_padding_images_and_captions_change_nothing():
    decoder, (prefix, valid, bias), (tokens, mask) = small(), prefixes(), captions()
    whole = decoder(prefix, valid, tokens, mask, bias=bias)
    torch.testing.assert_close(decoder(prefix, valid, tokens.masked_fill(~mask, 9), mask, bias=bias), whole)
    wide = F.pad(prefix, (0, 0, 2, 3)), F.pad(valid, (2, 3)), F.pad(tokens, (0, 2)), F.pad(mask, (0, 2))
    torch.testing.assert_close(decoder(*wide, bias=bias)[wide[3]], whole[mask])
    for b in range(B):
        one = slice(b, b + 1)
        for c in range(C):
            alone = decoder(prefix[one], valid[one], tokens[one, c : c + 1], mask[one, c : c + 1], bias=bias[one])
            torch.testing.assert_close(alone[0, 0], whole[b, c])


@settings(max_examples=60, deadline=None)
@drawn(seed=st.integers(0, 9999), words=st.integers(1, 6))
def test_what_is_said_is_each_token_once_up_to_the_row(seed: int, words: int):
    torch.manual_seed(seed)
    tokens, mask = torch.randint(0, words, (2, 3, 6)), torch.rand(2, 3, 6) > 0.2
    order = torch.argsort((~mask.flatten(1)).to(torch.uint8), dim=1, stable=True)
    real = mask.flatten(1).gather(1, order)
    fed = Fed.of(tokens, mask, order, real)
    rows = [(b, c, t) for b in range(2) for c in range(3) for t in range(6) if mask[b, c, t]]
    assert len(fed.said) == len(rows)
    for n, (b, c, t) in enumerate(rows):
        said = fed.tokens[n][fed.said[n]].tolist()
        assert len(said) == len(set(said))
        assert set(said) == {int(tokens[b, c, u]) for u in range(t + 1) if mask[b, c, u]}
        assert int(fed.image[n]) == b


@torch.no_grad()
def test_a_search_step_leaves_older_states_as_they_were():
    stepping, (prefix, valid, bias) = small().incremental(), prefixes()
    kept = bias.clone()
    _, state = stepping.prefill(prefix, valid, bias=bias)
    first, _ = stepping.step(torch.full((B,), 5), state)
    stepping.step(torch.full((B,), 6), state.rows(torch.tensor([3, 2, 1, 0])))
    again, _ = stepping.step(torch.full((B,), 5), state)
    assert torch.equal(first, again)
    assert torch.equal(bias, kept)


@torch.no_grad()
def test_the_snapshot_of_a_search_holds_the_gate():
    decoder, (prefix, valid, bias) = small(), prefixes()
    before = decoder.incremental()
    assert isinstance(before, IncrementalGpt2)
    first = before.prefill(prefix, valid, bias=bias)[0]
    decoder.word_bias.gate_bias += 2
    assert torch.equal(before.prefill(prefix, valid, bias=bias)[0], first)
    assert not torch.allclose(decoder.incremental().prefill(prefix, valid, bias=bias)[0], first)


def test_gate_trains_though_gpt2_is_adapted_and_frozen(tmp_path):
    small().save(tmp_path)
    config = Gpt2DecoderConfig(
        weights=str(tmp_path), dropout=0.0, lora=LoraConfig(rank=2), word_bias=GatedWordBiasConfig()
    )
    decoder = config.build(V, bos=BOS, eos=EOS, pad=PAD).train()
    decoder.requires_grad_(False)
    decoder.word_bias.requires_grad_(True)
    assert not {id(p) for p in decoder.trained()} & {id(p) for p in decoder.word_bias.parameters()}
    (prefix, valid, bias), (tokens, mask) = prefixes(), captions()
    decoder.loss(prefix, valid, tokens, mask, bias=bias).backward()
    grads = {name: parameter.grad for name, parameter in decoder.named_parameters()}
    assert {name for name, grad in grads.items() if grad is not None} == {
        "word_bias.gate", "word_bias.gate_bias", "word_bias.log_scale",
    }  # fmt: skip
    search(decoder.eval().incremental(), prefix, valid, PLAIN, UNSAID, bias=bias)
    assert torch.equal(decoder.merged().word_bias.gate, decoder.word_bias.gate)


def test_language_is_learned_without_the_gate():
    plain, decoder = small(1, NoWordBiasConfig()), small(2)
    gate = decoder.word_bias.gate.clone()
    decoder.load_language(plain.state_dict())
    assert torch.equal(decoder.word_bias.gate, gate)
    assert torch.equal(decoder.model.transformer.wte.weight, plain.model.transformer.wte.weight)
    with pytest.raises(RuntimeError, match="Missing key"):
        decoder.load_language({})


@pytest.mark.parametrize(("change", "strength"), [({"openness": 0.25}, 0.25), ({"scale": 3.0}, 1.5)])
def test_every_field_is_read(change: dict[str, float], strength: float):
    gate = replace(GatedWordBiasConfig(), **change).build(H)
    torch.testing.assert_close(gate.strength(torch.randn(2, 3, H)), torch.full((2, 3), strength))


def test_stages_are_of_their_kinds():
    assert isinstance(NoWordBiasConfig().build(H), NoWordBias)
    assert not NoWordBiasConfig().build(H).strength(torch.randn(3, H)).any()
    unsaid = Unsaid(bias=torch.ones(2, V), said=torch.full((4, 1), BOS))
    assert unsaid.after(torch.arange(4)).rows(torch.tensor([1, 1])).said.tolist() == [[BOS, 1], [BOS, 1]]
    assert unsaid.images(torch.tensor([1])).bias.shape == (1, V)


def test_bad_input_is_named():
    for openness in (0.0, 1.0, 1.5):
        with pytest.raises(ValueError, match=rf"decoder\.word_bias\.openness must lie in \(0, 1\), got {openness}"):
            GatedWordBiasConfig(openness=openness)
    with pytest.raises(ValueError, match=r"decoder\.word_bias\.scale must be positive, got 0"):
        GatedWordBiasConfig(scale=0.0)
    decoder, (prefix, valid, bias) = small().incremental(), prefixes()
    with pytest.raises(ValueError, match=r"bias is of 29 words, the decoder has 30 tokens: .*TokenSpread"):
        search(decoder, prefix, valid, PLAIN, UNSAID, bias=bias[:, 1:])
    bias[2, 5] = -torch.inf
    with pytest.raises(ValueError, match=r"word bias of image 2 of the batch is not finite.*search\.bad_words"):
        search(decoder, prefix, valid, PLAIN, UNSAID, bias=bias)


def test_what_is_known_is_learned_to_be_said_and_what_is_false_to_be_mistrusted():
    """New captions of random words at every step behind a prefix that tells nothing: the bias alone can know them."""

    def trained(*, of_others: bool) -> tuple[float, float]:
        torch.manual_seed(0)
        config = Gpt2DecoderConfig(layers=1, heads=2, width=H, positions=16, dropout=0.0, word_bias=GATED)
        decoder = config.build(V, bos=BOS, eos=EOS, pad=PAD).train()
        prefix, valid = torch.ones(64, 1, H), torch.ones(64, 1, dtype=torch.bool)
        optimizer = torch.optim.AdamW(decoder.parameters(), lr=2e-2)
        for _ in range(80):
            words = torch.rand(64, V - 4).argsort(1)[:, :6] + 4  # six different ones an image
            tokens = F.pad(words[:, None], (1, 1), value=BOS)
            tokens[..., -1] = EOS
            known = torch.zeros(64, V).scatter_(1, words, 1.0)
            known = known.flip(0) if of_others else known
            loss = decoder.loss(prefix, valid, tokens, torch.ones_like(tokens, dtype=torch.bool), bias=known)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        opened = decoder.word_bias.log_scale.exp() * decoder.word_bias.gate_bias.sigmoid()
        return float(loss.detach()), float(opened.detach())

    (told, opened), (misled, shut) = trained(of_others=False), trained(of_others=True)
    assert told < misled - 0.5
    assert opened > 1.0
    assert shut < 0.25
