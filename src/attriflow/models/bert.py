"""BERT with a linear layer that reads one label from the first token, by the optional library `transformers`.

Devlin et al. 2019, arXiv:1810.04805. Its weights come from a `checkpoint` of the setting, such as the
`model.safetensors` of a fine-tuned BertForSequenceClassification, whose names of weights are ours; without one it is
trained from random weights. Sequences are indices of the vocabulary that the checkpoint was trained with, which end in
[PAD], index 0.
"""

from functools import cache

import torch
from torch import Tensor, nn

from attriflow.data import PADDING
from attriflow.hyperparameters import PositiveInt, Probability


def build(
    shape: tuple[int, ...],
    classes: int,
    tokens: int = 0,
    *,
    width: PositiveInt = 768,
    layers: PositiveInt = 12,
    heads: PositiveInt = 12,
    inner: PositiveInt = 3072,
    positions: PositiveInt = 512,
    segments: PositiveInt = 2,
    dropout: Probability = 0.0,
) -> nn.Module:
    """A classifier of sequences of `shape` (length,) over so many tokens. The defaults are those of bert-base.

    dropout: behind every block; attention has none. Raises ModuleNotFoundError that says what to install where
    `transformers` is missing, and ValueError for other inputs, without tokens or one label for a sequence, longer than
    there are positions, and for a width that the heads do not divide.
    """
    if len(shape) != 1 or not tokens:
        raise ValueError(f"bert takes sequences of token indices (length,) with one label each, not inputs {shape}")
    if shape[0] > positions:
        raise ValueError(f"bert: sequences of {shape[0]} tokens, but {positions} positions")
    if width % heads:
        raise ValueError(f"bert: {heads} heads do not divide a width of {width}")
    try:
        from transformers import BertConfig
    except ImportError as error:
        raise ModuleNotFoundError("the model bert needs transformers: pip install 'attriflow[text]'") from error
    config = BertConfig(
        vocab_size=tokens,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=segments,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PADDING,
        num_labels=classes,
        attn_implementation="eager",  # written out, so that every derivative exists
    )
    return _classifier()(config)


@cache
def _classifier() -> type[nn.Module]:
    from transformers import BertForSequenceClassification

    class Classifier(BertForSequenceClassification):
        """Token indices (n, t) to logits (n, classes)."""

        def forward(self, x: Tensor) -> Tensor:
            # as numbers to add: a mask of bools is looked into, which no derivative over a batch allows
            least = torch.finfo(self.classifier.weight.dtype).min
            hidden = (x == PADDING)[:, None, None, :].to(self.classifier.weight.dtype) * least  # (n, 1, 1, t)
            return super().forward(input_ids=x, attention_mask=hidden).logits

    return Classifier
