import torch

from regioncap.decoder.packing import pack_captions


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prefixes with holes, captions of 0 to 4 tokens."""
    valid = torch.tensor([[True, False, True], [False, False, False]])
    lengths = torch.tensor([[2, 4, 0], [3, 1, 1]])
    return valid, torch.arange(24).view(2, 3, 4), torch.arange(4) < lengths[..., None]


def test_matches_a_slow_loop():
    valid, tokens, mask = example()
    packed = pack_captions(valid, tokens, mask)
    assert packed.tokens.shape == (2, 12)  # 6 rounded up, but no more than all 3 x 4
    for b in range(2):
        seen = int(valid[b].sum())
        slots = [("prefix", s, int(valid[b, :s].sum()) if valid[b, s] else 0, bool(valid[b, s])) for s in range(3)]
        for c in range(3):
            slots += [(c, int(tokens[b, c, t]), seen + t, True) for t in range(4) if mask[b, c, t]]
        for s, (_, _, position, _) in enumerate(slots):
            assert packed.positions[b, s] == position
        assert packed.tokens[b, : len(slots) - 3].tolist() == [token for _, token, _, _ in slots[3:]]
        assert packed.real[b].tolist() == [True] * (len(slots) - 3) + [False] * (15 - len(slots))
        for i, (caption, _, _, _) in enumerate(slots):
            for j, (other, _, _, real) in enumerate(slots):
                may = i == j or (j < i and real and other in ("prefix", caption))
                assert packed.allowed[b, i, j] == may, (b, i, j)


def test_order_finds_the_tokens_again():
    valid, tokens, mask = example()
    packed = pack_captions(valid, tokens, mask)
    for b in range(2):
        places = packed.order[b][packed.real[b]]
        assert torch.equal(tokens[b].flatten()[places], tokens[b][mask[b]])


def test_padding_is_heard_by_itself_alone_and_no_slot_is_deaf():
    valid, tokens, mask = example()
    packed = pack_captions(valid, tokens, mask)
    padding = ~torch.cat([valid, packed.real], 1)
    assert padding.any(1).all()
    heard = packed.allowed & padding[:, None]
    assert torch.equal(heard, torch.diag_embed(padding))
    assert packed.allowed.any(-1).all()


def test_nothing_at_all_packs_to_nothing():
    valid, tokens, mask = example()
    assert pack_captions(valid, tokens, torch.zeros_like(mask)).tokens.shape == (2, 0)
