"""Small decoders whose captions vary, `generate` over the same weights, and a stored GPT-2's tokenizer."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from regioncap.decoder import Captions, Gpt2Decoder, Gpt2DecoderConfig, SearchConfig, Wording, search

V, H, PAD, BOS, EOS = 30, 32, 3, 1, 2  # transformers fills up with eos where pad is 0
END = "<|endoftext|>"
UNSAID = Wording(suppress=(BOS, PAD))


@dataclass(frozen=True)
class SmallDecoders:
    """Decoders and prefixes by seed."""

    def decoder(self, seed: int, vocabulary: int = V) -> Gpt2Decoder:
        """Random weights large enough for varied captions; eos loud enough that many end early, others not at all."""
        torch.manual_seed(seed)
        config = Gpt2DecoderConfig(layers=2, heads=2, width=H, positions=48, dropout=0.0)
        decoder = config.build(vocabulary, bos=BOS, eos=EOS, pad=PAD).eval()
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.mul_(6 if parameter.dim() == 2 else 1)
            loud = decoder.model.transformer.wte.weight[EOS]
            decoder.model.transformer.ln_f.bias.copy_((1.0 + 0.5 * (seed % 3)) * loud / loud.square().sum())
        return decoder

    def prefixes(self, seed: int, images: int, slots: int = 5, width: int = H) -> tuple[Tensor, Tensor]:
        """Prefixes with holes, none of them all hole."""
        torch.manual_seed(100 + seed)
        prefix, valid = torch.randn(images, slots, width), torch.rand(images, slots) > 0.3
        valid[:, 0] = True
        return prefix, valid


@pytest.fixture(scope="session")
def small() -> SmallDecoders:
    """Random decoders by seed."""
    return SmallDecoders()


class GreedyAtFirst(LogitsProcessor):
    """Leaves each beam its best word alone for the first n tokens: turns `generate`'s beam search into the hybrid."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] >= self.n:
            return scores
        best = scores.argmax(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(1, best, scores.gather(1, best))


Generate = Callable[[Gpt2Decoder, Tensor, Tensor, SearchConfig], tuple[Tensor, Tensor | None]]
Ours = Callable[[Gpt2Decoder, Tensor, Tensor, SearchConfig], Captions]


@pytest.fixture(scope="session")
def generate() -> Generate:
    """transformers' search for the same config: tokens B n T, and the scores of a beam search B n."""

    def generated(
        decoder: Gpt2Decoder, prefix: Tensor, valid: Tensor, config: SearchConfig, wording: Wording = UNSAID
    ) -> tuple[Tensor, Tensor | None]:
        told = torch.tensor([decoder.bos, *wording.prompt]).expand(len(prefix), -1)
        hybrid = LogitsProcessorList([GreedyAtFirst(config.greedy_tokens)])
        out = decoder.model.generate(
            inputs_embeds=torch.cat([prefix, decoder.model.transformer.wte(told)], 1),
            attention_mask=F.pad(valid, (0, told.shape[1]), value=True).long(),
            num_beams=config.beams,
            num_return_sequences=config.captions,
            do_sample=False,
            max_new_tokens=config.max_new_tokens,
            min_new_tokens=config.min_new_tokens,
            length_penalty=config.length_penalty,
            no_repeat_ngram_size=config.no_repeat_ngram,
            bad_words_ids=[list(word) for word in wording.bad_words] or None,
            early_stopping={"heuristic": False, "first": True, "never": "never"}[config.early_stopping],
            suppress_tokens=list(wording.suppress) or None,
            logits_processor=hybrid if config.beams > 1 and config.greedy_tokens else None,
            return_dict_in_generate=True,
            output_scores=config.beams > 1,
            eos_token_id=decoder.eos,
            pad_token_id=decoder.pad,
        )
        scores = out.sequences_scores.view(len(prefix), -1) if config.beams > 1 else None
        return out.sequences.view(len(prefix), config.captions, -1), scores

    return generated


@pytest.fixture(scope="session")
def ours() -> Ours:
    """Our search with bos and pad never said, as `generate` has it."""

    def found(
        decoder: Gpt2Decoder, prefix: Tensor, valid: Tensor, config: SearchConfig, wording: Wording = UNSAID
    ) -> Captions:
        return search(decoder.incremental(config.precision), prefix, valid, config, wording)

    return found


@pytest.fixture(scope="session")
def save_gpt2_tokenizer() -> Callable[[Path], Path]:
    """Writes vocab.json, merges.txt and a config.json into a folder, as OpenAI's release has them."""

    def save(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        captions = ["A man's dog runs after 3 running dogs.", "two men and the dog run", "a red ball"] * 3
        tokenizer = ByteLevelBPETokenizer()
        tokenizer.train_from_iterator(captions, vocab_size=300, min_frequency=1, show_progress=False)
        tokenizer.save_model(str(folder))
        vocabulary = json.loads((folder / "vocab.json").read_text())
        vocabulary[END] = len(vocabulary)  # the last one, as in GPT-2
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
        return folder

    return save
