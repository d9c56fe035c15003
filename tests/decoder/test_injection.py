"""A vector added to every word's embedding, against transformers with those embeddings given or built in."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regioncap.decoder import Captions, Gpt2Decoder, Gpt2DecoderConfig, SearchConfig, Wording, search

V, H, P, C, T, B, PAD, BOS, EOS = 30, 32, 3, 2, 6, 4, 3, 1, 2
GREEDY = SearchConfig(greedy_tokens=0, beams=1, max_new_tokens=8)
BEAM = SearchConfig(greedy_tokens=0, beams=3, max_new_tokens=8)
HYBRID = SearchConfig(greedy_tokens=2, beams=3, max_new_tokens=8)


def small(seed: int = 0) -> Gpt2Decoder:
    """Random weights large enough that words, positions and what is added all matter."""
    torch.manual_seed(seed)
    decoder = Gpt2DecoderConfig(layers=2, heads=2, width=H, positions=32, dropout=0.0).build(
        V, bos=BOS, eos=EOS, pad=PAD
    )
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(5 if parameter.dim() == 2 else 1)
    return decoder.eval()


def given(slots: int = P) -> tuple[Tensor, Tensor, Tensor]:
    """Prefixes with holes, and what is added."""
    torch.manual_seed(7)
    valid = torch.rand(B, slots) > 0.4
    return torch.randn(B, slots, H), valid, 0.3 * torch.randn(B, H)


def ours(decoder: Gpt2Decoder, prefix: Tensor, valid: Tensor, config: SearchConfig, added: Tensor) -> Captions:
    return search(decoder.incremental(), prefix, valid, config, Wording(suppress=(BOS, PAD)), added)


def captions() -> tuple[Tensor, Tensor]:
    torch.manual_seed(8)
    return torch.randint(4, V, (B, C, T)), torch.arange(T) < torch.randint(2, T + 1, (B, C, 1))


@pytest.mark.parametrize("slots", [0, P])
def test_logits_equal_those_of_transformers_given_the_summed_embeddings(slots: int):
    """Caption by caption; prefix slots get nothing added."""
    decoder, (prefix, valid, added), (tokens, mask) = small(), given(slots), captions()
    logits = decoder(prefix, valid, tokens, mask, added)
    for b in range(B):
        for c in range(C):
            words = decoder.model.transformer.wte(tokens[b, c][mask[b, c]]) + added[b]
            embeddings = torch.cat([prefix[b][valid[b]], words])[None]
            want = decoder.model(inputs_embeds=embeddings).logits[0, int(valid[b].sum()) :]
            torch.testing.assert_close(logits[b, c][mask[b, c]], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [GREEDY, BEAM])
@pytest.mark.parametrize("slots", [0, P])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_search_equals_generate_by_a_model_with_the_vector_in_its_word_table(slots: int, config: SearchConfig):
    """To add a vector to every word is to have it in every row of the table, the output layer being as it was."""
    decoder, (prefix, valid, added) = small(1), given(slots)
    found = ours(decoder, prefix, valid, config, added)
    assert len({tuple(row) for row in found.tokens[:, 0].tolist()}) > 1
    for b in range(B):
        model = copy.deepcopy(decoder.model)
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())  # no longer tied
        model.transformer.wte.weight.data += added[b]
        bos = model.transformer.wte(torch.tensor([[BOS]]))
        theirs = model.generate(
            inputs_embeds=torch.cat([prefix[b][valid[b]][None], bos], 1),
            attention_mask=torch.ones(1, int(valid[b].sum()) + 1, dtype=torch.long),
            num_beams=config.beams,
            do_sample=False,
            max_new_tokens=config.max_new_tokens,
            min_new_tokens=1,
            suppress_tokens=[BOS, PAD],
            eos_token_id=EOS,
            pad_token_id=PAD,
        )[0]
        assert torch.equal(found.tokens[b, 0, : len(theirs)], theirs)


@pytest.mark.parametrize("config", [GREEDY, BEAM, HYBRID])
def test_batched_search_equals_one_by_one(config: SearchConfig):
    """Though images leave the batch at different steps, each takes its own vector along."""
    decoder, (prefix, valid, added) = small(2), given()
    with torch.no_grad():  # eos loud enough that some captions end early
        loud = decoder.model.transformer.wte.weight[EOS]
        decoder.model.transformer.ln_f.bias.copy_(1.5 * loud / loud.square().sum())
    whole = ours(decoder, prefix, valid, config, added)
    assert len(set(whole.lengths[:, 0].tolist())) > 1
    for b in range(B):
        one = slice(b, b + 1)
        alone = ours(decoder, prefix[one], valid[one], config, added[one])
        assert torch.equal(alone.tokens[0, 0], whole.tokens[b, 0, : int(alone.lengths)])
        torch.testing.assert_close(alone.scores[0], whole.scores[b])


def test_log_probabilities_of_search_are_those_of_the_training_pass():
    decoder, (prefix, valid, added) = small(1), given()
    found = ours(decoder, prefix, valid, HYBRID, added)
    said = torch.arange(found.tokens.shape[2]) < found.lengths[..., None]
    told, real = F.pad(found.tokens, (1, 0), value=BOS), F.pad(said, (1, 0), value=True)
    losses = decoder.token_losses(prefix, valid, told, real, added)
    torch.testing.assert_close(found.log_probs, -losses, rtol=1e-4, atol=1e-5)


def test_gradient_reaches_what_is_added_of_every_image():
    decoder, (prefix, valid, added), (tokens, mask) = small(), given(), captions()
    added.requires_grad_()
    decoder.loss(prefix, valid, tokens, mask, added).backward()
    assert (added.grad.abs().sum(1) > 0).all()


def test_adding_zeros_is_adding_nothing():
    decoder, (prefix, valid, added), (tokens, mask) = small(), given(), captions()
    assert torch.equal(
        decoder(prefix, valid, tokens, mask, torch.zeros_like(added)), decoder(prefix, valid, tokens, mask)
    )
