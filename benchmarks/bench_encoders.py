"""The image encoders' CPU fast path against the plain float32 forward of the library that the weights come from.

    python benchmarks/bench_encoders.py                  table of times, ratios and errors; about a minute on one core

Plain is what one gets by calling the library: BatchNorm of its own, channels first, float32. Cases take turns, so that
a busy machine slows all alike, and CPU seconds of one thread are counted; the ratio is the median over rounds with its
range. Error is against the plain forward's image vectors: 1 - cosine of the worst image, and the relative distance over
all. CLIP and ResNet-50 have random weights (their published ones need the hub), EfficientNet its own. `--images DIR`
takes photographs from a folder for the random pictures. Their records are made by `bench_global_encoder.py` and
`bench_region_encoders.py`.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet50
from transformers import CLIPConfig, CLIPModel

from regioncap.encoders import ClipEncoder, ClipEncoderConfig, EfficientNetLiteConfig, ResNetConfig, load_image
from regioncap.encoders.efficientnet_lite import load_efficientnet_lite
from regioncap.experiments.benchmarking import table2
from regioncap.experiments.benchmarking.measure import in_turns, percentile

Forward = Callable[[Tensor], Tensor]
"""Images in [0, 1], B 3 224 224, to image vectors."""
SIZE = 224
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def efficientnet() -> dict[str, Forward]:
    weights = EfficientNetLiteConfig().weights
    plain = with_batch_norm(load_efficientnet_lite(weights)).eval().to(memory_format=torch.contiguous_format)
    exact, rough = (EfficientNetLiteConfig().build(precision) for precision in ("float32", "bfloat16"))
    return {
        "plain": lambda x: plain(x).mean((2, 3)),
        "float32": lambda x: exact(x).mean((2, 3)),
        "bfloat16": lambda x: rough(x).mean((2, 3)),
    }


def with_batch_norm(model: nn.Module) -> nn.Module:
    """The folded trunk with BatchNorms again, which do nothing but take their time."""
    for name, child in model.named_children():
        if not isinstance(child, nn.Conv2d):
            with_batch_norm(child)
            continue
        norm = nn.BatchNorm2d(child.out_channels, eps=1e-3)
        assert child.bias is not None
        norm.bias.data.copy_(child.bias.data)
        norm.running_var = torch.full((child.out_channels,), 1.0 - 1e-3)
        child.bias = None
        setattr(model, name, nn.Sequential(child, norm))
    return model


def resnet() -> dict[str, Forward]:
    torch.manual_seed(0)
    model = resnet50(weights=None).eval()
    for module in model.modules():  # as after training: else folding would have nothing to fold
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(cast(Tensor, module.running_mean), 0.0, 0.1)
            nn.init.uniform_(cast(Tensor, module.running_var), 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.2, 0.8)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "resnet50.pth"
        torch.save(model.state_dict(), file)
        exact, rough = (ResNetConfig(weights=str(file)).build(precision) for precision in ("float32", "bfloat16"))
    model.fc = nn.Identity()
    return {
        "plain": lambda x: model((x - MEAN) / STD),
        "float32": lambda x: exact(x).mean((2, 3)),
        "bfloat16": lambda x: rough(x).mean((2, 3)),
    }


def clip() -> dict[str, Forward]:
    torch.manual_seed(0)
    state = CLIPModel(CLIPConfig(projection_dim=512)).state_dict()

    def model() -> CLIPModel:
        made = CLIPModel(CLIPConfig(projection_dim=512))
        made.load_state_dict(state)
        return cast(CLIPModel, cast(nn.Module, made).eval())

    def ours(precision: Literal["float32", "bfloat16", "int8"]) -> Forward:
        config = ClipEncoderConfig(weights="random", precision=precision)
        encoder = ClipEncoder(config, model=model(), tokenizer=None, preprocessing=table2.clip_preprocessing())
        return lambda x: encoder.embed_image((x - MEAN) / STD)

    plain = model()
    return {
        "plain": lambda x: F.normalize(plain.get_image_features(pixel_values=(x - MEAN) / STD).pooler_output, dim=-1),
        **{precision: ours(precision) for precision in ("float32", "bfloat16", "int8")},
    }


CASES: dict[str, Callable[[], dict[str, Forward]]] = {
    "EfficientNet-Lite0": efficientnet,
    "ResNet-50": resnet,
    "CLIP ViT-B/32": clip,
}


def pictures(batch: int, folder: Path | None) -> Tensor:
    if folder is not None:
        files = sorted(folder.glob("*.jpg"))[:batch]
        return torch.stack([load_image(file, SIZE) for file in files])
    coarse = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)


@torch.inference_mode()
def measure(forwards: dict[str, Forward], images: Tensor, rounds: int) -> None:
    reference = forwards["plain"](images)
    taken = in_turns({name: partial(forward, images) for name, forward in forwards.items()}, rounds=(rounds, rounds))
    for name, forward in forwards.items():
        vectors = forward(images)
        ratios = [plain / own for plain, own in zip(taken.seconds["plain"], taken.seconds[name], strict=True)]
        cosine = F.cosine_similarity(vectors, reference).min().item()
        distance = ((vectors - reference).norm() / reference.norm()).item()
        milliseconds = 1e3 * taken.p50(name) / len(images)
        print(
            f"  {name:9} {milliseconds:7.1f} ms/image   {percentile(ratios, 0.5):5.2f}x "
            f"({min(ratios):.2f}-{max(ratios):.2f})   1 - cosine {max(0.0, 1 - cosine):.1e}   relative {distance:.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEGs to take pictures from")
    parser.add_argument("--batch", type=int, default=8, help="images at once (8)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (7)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = pictures(arguments.batch, arguments.images)
    for name, make in CASES.items():
        print(f"{name}, {len(images)} images at once, one thread")
        measure(make(), images, arguments.rounds)


if __name__ == "__main__":
    main()
