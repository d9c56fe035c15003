import math

import torch

from regioncap.encoders.vit import VitBlock, VitReadout

SHAPE = {"width": 6, "heads": 2, "hidden": 10, "activation": "quick_gelu", "epsilon": 1e-5}


def loop(block, x):
    """The equations, one image, one token, one head at a time."""

    def normalise(vector, layer):
        centred = vector - vector.mean()
        return centred / math.sqrt(centred.pow(2).mean() + layer.eps) * layer.weight + layer.bias

    out = torch.empty_like(x)
    for b, image in enumerate(x):
        rows = [block.qkv.weight @ normalise(token, block.attention_norm) + block.qkv.bias for token in image]
        for t, token in enumerate(image):
            heard = []
            for head in range(2):
                part = slice(3 * head, 3 * head + 3)
                logits = [rows[t][:6][part] @ row[6:12][part] / math.sqrt(3) for row in rows]
                weights = torch.stack(logits).softmax(0)
                heard.append(sum(w * row[12:][part] for w, row in zip(weights, rows, strict=True)))
            y = token + block.out.weight @ torch.cat(heard) + block.out.bias
            z = block.widen.weight @ normalise(y, block.mlp_norm) + block.widen.bias
            out[b, t] = y + block.narrow.weight @ (z * torch.sigmoid(1.702 * z)) + block.narrow.bias
    return out


def test_block_is_the_equations():
    torch.manual_seed(0)
    block, x = VitBlock(**SHAPE), torch.randn(2, 4, 6)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        torch.testing.assert_close(block(x), loop(block, x), atol=1e-5, rtol=1e-5)


def test_what_is_not_asked_for_changes_nothing():
    torch.manual_seed(0)
    block, x = VitBlock(**SHAPE), torch.randn(2, 4, 6)
    torch.testing.assert_close(block(x, 1), block(x)[:, :1])


def test_the_short_way_to_the_image_vector_is_the_long_one():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6)
    for readout in ("class", "attention"):
        stage = VitReadout(layers=2, readout=readout, **SHAPE)
        torch.testing.assert_close(stage(x), stage.read(stage.tokens(x)))
