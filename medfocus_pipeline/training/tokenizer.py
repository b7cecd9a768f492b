"""The small tokenizer of lite-clip: byte pair encoding, lower case, learned from captions."""

import json
import string
from collections.abc import Iterable
from pathlib import Path

from medfocus_pipeline.files import replacing

SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
"""Ids as `CLIPTextConfig` takes them. The end is not 2, which transformers takes for a mistake
of early CLIP models and then looks for the greatest id instead."""

_SPECIAL_TOKENS = ["<pad>", "<s>", "<unk>", "</s>"]


def train_tokenizer(path: Path, texts: Iterable[str], *, vocabulary: int) -> int:
    """Learn a ``tokenizer.json``, the same from the same texts.

    Printable ASCII is in it letter by letter, so that a word that no text has is spelt.

    Args:
        path: of the file.
        texts: in any case, with any accents.
        vocabulary: the most entries.

    Returns:
        Number of entries.
    """
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
    from tokenizers.models import BPE

    tokenizer = Tokenizer(BPE(unk_token="<unk>"))  # noqa: S106
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Metaspace(prepend_scheme="always"),
        ]
    )
    letters = string.ascii_lowercase + string.digits + string.punctuation
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=_SPECIAL_TOKENS,
        initial_alphabet=["\N{LOWER ONE EIGHTH BLOCK}", *letters],
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 3)]
    )
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(json.loads(tokenizer.to_str())), encoding="utf-8")
    return int(tokenizer.get_vocab_size())
