import torch
import torch.nn.functional as F

from regioncap.experiments.retrieval import nearest_captions


def test_every_image_gets_the_first_caption_of_its_nearest_training_image() -> None:
    generator = torch.Generator().manual_seed(0)
    g = F.normalize(torch.randn(300, 8, generator=generator), dim=-1)  # more than one part of 256
    g_train = F.normalize(torch.randn(40, 8, generator=generator), dim=-1)
    captions = [[f"first of {row}", f"second of {row}"] for row in range(40)]
    expected = []
    for query in g:
        cosines = [float(query @ key) for key in g_train]
        expected.append(f"first of {cosines.index(max(cosines))}")
    assert nearest_captions(g, g_train, captions) == expected
