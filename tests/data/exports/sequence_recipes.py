"""Models of sounds and series: recurrent networks, Whisper, Wav2Vec2, a vocoder, scripted loops."""

from __future__ import annotations

from typing import Any

import torch
from recipe import Recipe
from text_recipes import EAGER, Call, flat, pairs
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperForConditionalGeneration,
)


def whisper() -> WhisperForConditionalGeneration:
    return WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=91,
            num_mel_bins=16,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_source_positions=20,
            max_target_positions=32,
            init_std=0.2,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            suppress_tokens=None,
            begin_suppress_tokens=None,
            **EAGER,
        )
    )


def whisper_encoder() -> Recipe:
    return Recipe(
        Call(whisper().model.encoder, lambda m, sound: m(sound).last_hidden_state),
        dict(input_features="batch 16 40"),
        ["states"],
        [dict(batch=2), dict(batch=1), dict(batch=5)],
        dynamo=True,
    )


def whisper_decoder_step() -> Recipe:
    """One token after those before, whose keys and values are inputs, as are those of the encoder."""

    def call(m: Any, ids: torch.Tensor, *past: torch.Tensor) -> Any:
        cache = EncoderDecoderCache(DynamicCache(pairs(past[:4])), DynamicCache(pairs(past[4:])))
        states = torch.zeros(1, 20, 32)
        found = m.model.decoder(input_ids=ids, encoder_hidden_states=states, cache=cache, use_cache=True)
        return (m.proj_out(found.last_hidden_state), *flat(cache.self_attention_cache))

    names = [f"{layer}_{what}" for layer in range(2) for what in ("key", "value")]
    shapes = {f"past_{name}": "batch 4 past 8" for name in names} | {f"cross_{name}": "batch 4 20 8" for name in names}
    return Recipe(
        Call(whisper(), call),
        dict(input_ids="batch 1", **shapes),
        ["logits", *(f"present_{name}" for name in names)],
        [dict(batch=2, past=3), dict(batch=1, past=1), dict(batch=3, past=11)],
        dict(input_ids="below 91"),
        output_axes=[{0: "batch"}] + 4 * [{0: "batch", 2: "total"}],
    )


def wav2vec2() -> Recipe:
    config = Wav2Vec2Config(
        vocab_size=31,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=[16, 16, 16],
        conv_stride=[5, 2, 2],
        conv_kernel=[10, 3, 2],
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        initializer_range=0.2,
    )
    return Recipe(
        Call(Wav2Vec2ForCTC(config), lambda m, sound: m(sound).logits),
        dict(sound="batch samples"),
        ["logits"],
        [dict(batch=2, samples=800), dict(batch=1, samples=1501), dict(batch=3, samples=333)],
        output_axes=[{0: "batch", 1: "frames"}],
    )


class Crnn(nn.Module):
    """Text in a line of an image: convolutions, then two directions of LSTM over its columns."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, 1, 1),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(8, 16, 3, 1, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d((2, 2), (2, 1), (0, 1)),
            nn.Conv2d(16, 16, (4, 2)),
            nn.ReLU(),
        )
        self.lstm = nn.LSTM(16, 12, num_layers=2, bidirectional=True)
        self.head = nn.Linear(24, 11)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        columns = self.features(image).squeeze(2).permute(2, 0, 1)
        return F.log_softmax(self.head(self.lstm(columns)[0]), 2)


def crnn() -> Recipe:
    return Recipe(
        Crnn(),
        dict(image="batch 1 16 width"),
        ["letters"],
        [dict(batch=2, width=40), dict(batch=1, width=64), dict(batch=3, width=21)],
        output_axes=[{0: "columns", 1: "batch"}],
    )


class Vocoder(nn.Module):
    """HiFi-GAN in small: spectrum to sound by transposed convolutions and dilated residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv1d(20, 32, 7, 1, 3))
        self.up = nn.ModuleList(
            [weight_norm(nn.ConvTranspose1d(32, 16, 8, 4, 2)), weight_norm(nn.ConvTranspose1d(16, 8, 5, 3, 1))]
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                weight_norm(nn.Conv1d(channels, channels, size, 1, dilation * (size - 1) // 2, dilation))
                for size, dilation in ((3, 1), (3, 3), (7, 5))
            )
            for channels in (16, 8)
        )
        self.last = weight_norm(nn.Conv1d(8, 1, 7, 1, 3))

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        x = self.first(spectrum)
        for up, convolutions in zip(self.up, self.blocks):
            x = up(F.leaky_relu(x, 0.1))
            for convolution in convolutions:
                x = x + convolution(F.leaky_relu(x, 0.1))
        return torch.tanh(self.last(F.leaky_relu(x)))


def vocoder(dynamo: bool = False) -> Recipe:
    return Recipe(
        Vocoder(),
        dict(spectrum="batch 20 frames"),
        ["sound"],
        [dict(batch=2, frames=9), dict(batch=1, frames=31), dict(batch=3, frames=3)],
        dynamo=dynamo,
        output_axes=[{0: "batch", 2: "samples"}],
    )


def vocoder_dynamo() -> Recipe:
    return vocoder(dynamo=True)


class Tagger(nn.Module):
    """Padded sequences, packed for an LSTM and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 12)
        self.lstm = nn.LSTM(12, 10, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(20, 9, batch_first=True)
        self.head = nn.Linear(9, 5)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        packed = pack_padded_sequence(self.words(ids), lengths, batch_first=True)
        packed, last = self.gru(self.lstm(packed)[0])
        return self.head(pad_packed_sequence(packed, batch_first=True)[0]), last


def packed_lstm() -> Recipe:
    return Recipe(
        Tagger(),
        dict(ids="batch length", lengths="batch"),
        ["tags", "last"],
        [dict(batch=3, length=7), dict(batch=1, length=4), dict(batch=4, length=9)],
        dict(
            ids="below 50", lengths=lambda sizes: [max(1, sizes["length"] - 2 * row) for row in range(sizes["batch"])]
        ),
        output_axes=[{0: "batch", 1: "length"}, {1: "batch"}],
    )


class Greedy(nn.Module):
    """A recurrent decoder. Each token is the best after those before; it ends with token 0 or after `most`."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(13, 8)
        self.mix = nn.Linear(24, 16)
        self.head = nn.Linear(16, 13)
        nn.init.normal_(self.head.weight, 0, 1)

    def forward(self, state: torch.Tensor, most: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        token = torch.ones(state.shape[0], dtype=torch.long)
        scores = torch.zeros(state.shape[0], 1)
        step = 0
        going = True
        while going and step < int(most):
            state = torch.tanh(self.mix(torch.cat([self.words(token), state], 1)))
            best, token = self.head(state).max(1)
            scores = torch.cat([scores, best[:, None]], 1)
            going = bool((token != 0).any())
            step += 1
        return scores, state


class Smooth(nn.Module):
    """A filter with a state: the loop over steps and the choice inside stay in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = torch.zeros_like(x[0])
        found = []
        for step in range(x.shape[0]):
            if bool(x[step].mean() > 0):
                state = torch.tanh(self.mix(state) + x[step])
            else:
                state = 0.5 * state
            found.append(state)
        return torch.stack(found), state


def scripted_greedy() -> Recipe:
    return Recipe(
        torch.jit.script(Greedy().eval()),
        dict(state="batch 16", most=""),
        ["scores", "last"],
        [dict(batch=2, most=6), dict(batch=1, most=1), dict(batch=3, most=20)],
        dict(most=lambda sizes: sizes["most"]),
        output_axes=[{0: "batch", 1: "steps"}, {0: "batch"}],
    )


def scripted_filter() -> Recipe:
    return Recipe(
        torch.jit.script(Smooth().eval()),
        dict(x="steps batch 6"),
        ["states", "last"],
        [dict(steps=5, batch=2), dict(steps=1, batch=3), dict(steps=12, batch=1)],
        output_axes=[{0: "steps", 1: "batch"}, {0: "batch"}],
    )


class Loudness(nn.Module):
    """Logarithms of a spectrum's bands over time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(32))
        self.bands = nn.Parameter(torch.rand(17, 8))

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(sound, 32, 16, window=self.window, center=False, return_complex=False)
        power = spectrum.pow(2).sum(-1)
        return torch.log(power.transpose(1, 2) @ self.bands + 1e-6)


def loudness() -> Recipe:
    return Recipe(
        Loudness(),
        dict(sound="batch samples"),
        ["bands"],
        [dict(batch=2, samples=160), dict(batch=1, samples=333), dict(batch=3, samples=64)],
        opset=17,
        output_axes=[{0: "batch", 1: "frames"}],
    )


class Experts(nn.Module):
    """Each token goes through the two experts that its router likes most."""

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.router = nn.Linear(16, count)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16)) for _ in range(count)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.reshape(-1, 16)
        weights, chosen = self.router(tokens).softmax(1).topk(2)
        y = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            row, place = torch.where(chosen == index)
            y = y.index_add(0, row, expert(tokens[row]) * weights[row, place, None])
        return y.reshape(x.shape)


def experts() -> Recipe:
    return Recipe(
        Experts(),
        dict(x="batch length 16"),
        ["y"],
        [dict(batch=2, length=5), dict(batch=1, length=1), dict(batch=3, length=8)],
        output_axes=[{0: "batch", 1: "length"}],
    )


RECIPES = [
    whisper_encoder,
    whisper_decoder_step,
    wav2vec2,
    crnn,
    vocoder,
    vocoder_dynamo,
    packed_lstm,
    scripted_greedy,
    scripted_filter,
    loudness,
    experts,
]
