"""Language models of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from recipe import Recipe
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

EAGER = dict(attn_implementation="eager")
TEXTS = [dict(batch=2, length=7), dict(batch=1, length=12), dict(batch=3, length=1)]


class Call(nn.Module):
    """A model behind positional arguments."""

    def __init__(self, model: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.call = model, call

    def forward(self, *arguments: torch.Tensor) -> Any:
        return self.call(self.model, *arguments)


def pairs(tensors: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of each layer."""
    return list(zip(tensors[::2], tensors[1::2]))


def flat(cache: Any) -> list[torch.Tensor]:
    """Keys and values one after the other."""
    return [tensor for layer in cache for tensor in layer[:2]]


def bert_config(**more: Any) -> BertConfig:
    return BertConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.2,
        **more,
    )


def bert() -> Recipe:
    return Recipe(
        Call(
            BertModel(bert_config(**EAGER)),
            lambda m, ids, mask, types: m(ids, attention_mask=mask, token_type_ids=types, return_dict=False),
        ),
        dict(input_ids="batch length", attention_mask="batch length", token_type_ids="batch length"),
        ["last_hidden_state", "pooler_output"],
        TEXTS,
        dict(input_ids="below 97", attention_mask="mask", token_type_ids="below 2"),
        opset=14,
        output_axes=[{0: "batch", 1: "length"}, {0: "batch"}],
    )


def bert_without_token_types() -> Recipe:
    return Recipe(
        Call(BertForSequenceClassification(bert_config()), lambda m, ids, mask: m(ids, attention_mask=mask).logits),
        dict(input_ids="batch length", attention_mask="batch length"),
        ["logits"],
        TEXTS,
        dict(input_ids="below 97", attention_mask="mask"),
        output_axes=[{0: "batch"}],
    )


def bert_dynamo() -> Recipe:
    recipe = bert_without_token_types()
    recipe.dynamo = True
    return recipe


def t5() -> T5ForConditionalGeneration:
    sizes = dict(vocab_size=89, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return T5ForConditionalGeneration(T5Config(**sizes, feed_forward_proj="gated-gelu", decoder_start_token_id=0))


def t5_encoder() -> Recipe:
    return Recipe(
        Call(t5().encoder, lambda m, ids, mask: m(ids, attention_mask=mask, return_dict=False)[0]),
        dict(input_ids="batch length", attention_mask="batch length"),
        ["hidden_states"],
        TEXTS,
        dict(input_ids="below 89", attention_mask="mask"),
        output_axes=[{0: "batch", 1: "length"}],
    )


def t5_decoder() -> Recipe:
    def call(m: Any, ids: torch.Tensor, mask: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        shared = dict(encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False, return_dict=False)
        return m.lm_head(m.decoder(input_ids=ids, **shared)[0])

    return Recipe(
        Call(t5(), call),
        dict(input_ids="batch length", encoder_attention_mask="batch seen", encoder_hidden_states="batch seen 32"),
        ["logits"],
        [dict(sizes, seen=seen) for sizes, seen in zip(TEXTS, (9, 5, 3))],
        dict(input_ids="below 89", encoder_attention_mask="mask"),
        dynamo=True,
    )


def with_past(model: nn.Module, vocabulary: int, heads: int, width: int, dynamo: bool) -> Recipe:
    """A step of a decoder of two layers, whose keys and values come from the steps before and go on to the next."""

    def call(m: Any, ids: torch.Tensor, mask: torch.Tensor, *past: torch.Tensor) -> Any:
        found = m(input_ids=ids, attention_mask=mask, cache=DynamicCache(pairs(past)), use_cache=True)
        return (found.logits, *flat(found.cache))

    past = [f"past_{layer}_{what}" for layer in range(2) for what in ("key", "value")]
    cases = [
        dict(batch=2, length=4, past=5, total=9),
        dict(batch=1, length=1, past=3, total=4),
        dict(batch=3, length=1, past=17, total=18),
    ]
    return Recipe(
        Call(model, call),
        dict(input_ids="batch length", attention_mask="batch total")
        | dict.fromkeys(past, f"batch {heads} past {width}"),
        ["logits", *(name.replace("past", "present") for name in past)],
        cases,
        dict(input_ids=f"below {vocabulary}", attention_mask="mask"),
        dynamo=dynamo,
        output_axes=[{0: "batch", 1: "length"}] + 4 * [{0: "batch", 2: "total"}],
    )


def gpt2_with_past() -> Recipe:
    config = GPT2Config(vocab_size=101, n_positions=64, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2, **EAGER)
    return with_past(GPT2LMHeadModel(config), 101, 4, 8, dynamo=False)


def llama(**more: Any) -> LlamaForCausalLM:
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, initializer_range=0.2)
    return LlamaForCausalLM(LlamaConfig(vocab_size=103, num_attention_heads=4, num_key_value_heads=2, **sizes, **more))


def llama_with_past() -> Recipe:
    return with_past(llama(**EAGER), 103, 2, 8, dynamo=True)


def llama_with_past_traced() -> Recipe:
    recipe = with_past(llama(), 103, 2, 8, dynamo=False)
    recipe.cases = [dict(sizes, length=1, total=sizes["past"] + 1) for sizes in recipe.cases]
    return recipe


RECIPES = [
    bert,
    bert_without_token_types,
    bert_dynamo,
    t5_encoder,
    t5_decoder,
    gpt2_with_past,
    llama_with_past,
    llama_with_past_traced,
]
