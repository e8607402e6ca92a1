"""The encoder: backbone, pooling, optional head, normalisation.

B batch rows, T tokens of the longest, N tokens of all rows, H width.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from hybatch.atomic import atomic_directory
from hybatch.errors import UserError
from hybatch.models import tokenization
from hybatch.models.backbone.building import quiet_transformers
from hybatch.models.backbone.traits import unused_parameters
from hybatch.models.card import CARD, Origin, model_card, saved_as_it_is
from hybatch.models.config import EncoderConfig, Role, check_config
from hybatch.models.folder.debiased import Debiased, write_debiased
from hybatch.models.folder.layout import write_layout
from hybatch.models.head import Dense
from hybatch.models.language_offsets import LanguageOffsets
from hybatch.models.laser import LaserNetwork, LaserTokenizer
from hybatch.models.lora.targets import target_layers
from hybatch.models.lora.updates import ADAPTER_FOLDER, add_updates, draw_updates, merged, write_updates
from hybatch.models.named import hub_id
from hybatch.models.parts import saved_parts, seeded_parts
from hybatch.models.pooling import pool, pool_sequence
from hybatch.models.unpadded import (
    ARCHITECTURES,
    ATTENTION,
    TokenSequence,
    attend_without_padding,
    register_attention,
    why_padded,
)
from hybatch.models.unpadded.sequence import backbone_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Encoder(nn.Module):
    """Texts to vectors of unit length; queries and passages share every weight and differ in prefix and length.

    The backbone's weights are fp32 and stay what the caller makes of them: mixed precision comes from an autocast
    around `forward`. Pooling, head and normalisation are computed in fp32 in any case.

    Attributes:
        config: what the encoder is made of, pooling and head settled.
        tokenizer: a tokenizer of transformers.
        embedding_size: H.
        autocast_dtype: bfloat16 or float16 where evaluation encodes under autocast; training has its own.
        padded_because: why texts go through the backbone with padding; None where they go without.
        offsets: what moves an embedding by the language of its text, behind `forward`, which does not know it; None
            for an encoder whose embeddings are what `forward` gives.
        debiased: how language bias was taken out of it after training, where it was.
        prompts: what its folder has beside the configuration's prefixes, by name: those of the data sets it was trained
            on that have their own (`hybatch.models.folder.prompts.names_of`).
        card: the README.md of the folder that it was loaded from, where `save` wrote that.
        dimensions: how many leading ones of an embedding are trained to be an embedding, all first; none where only all
            are. Its folder says so.
        unused: names of the backbone's parameters that no embedding depends on, where it was built to be trained.
        lora_layers: names of the backbone's layers that have an update of low rank beside them (`config.lora`).
    """

    def __init__(
        self,
        config: EncoderConfig,
        backbone: PreTrainedModel | LaserNetwork,
        tokenizer: PreTrainedTokenizerBase | LaserTokenizer,
        head: Sequence[Dense] = (),
        offsets: LanguageOffsets | None = None,
        debiased: Debiased | None = None,
        prompts: Mapping[str, str] | None = None,
        card: str | None = None,
        dimensions: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.head = nn.ModuleList(head)
        self.offsets = offsets
        self.debiased = debiased
        self.prompts = dict(prompts or {})
        self.card = card
        self.dimensions = tuple(dimensions)
        self.embedding_size: int = head[-1].linear.out_features if head else backbone.config.hidden_size
        self.autocast_dtype: torch.dtype | None = None
        self.padded_because = _settle_padding(config, backbone)
        self.unused: frozenset[str] = frozenset()
        self.lora_layers: tuple[str, ...] = ()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle, maybe in a process that has built no encoder yet."""
        super().__setstate__(state)
        if self.padded_because is None:
            register_attention()

    def pad(self, reason: str) -> None:
        """From now on give the backbone padded texts; `reason` is for `padded_because`."""
        if self.padded_because is None:
            assert not isinstance(self.backbone, LaserNetwork)
            self.backbone.set_attn_implementation("sdpa")
            self.padded_because = reason

    @property
    def token_table(self) -> nn.Embedding | None:
        """The table that texts without padding look their tokens up in, where it does that and nothing else."""
        if self.padded_because is not None:
            return None
        assert not isinstance(self.backbone, LaserNetwork)
        table = self.backbone.get_input_embeddings()
        is_plain = type(table) is nn.Embedding and table.max_norm is None
        return table if is_plain and not (table.sparse or table.scale_grad_by_freq) else None

    def tokenize(self, texts: Sequence[str], role: Role) -> dict[str, Tensor]:
        """Prefix, cut to the role's maximum length, pad to the longest: int64 [B, T] tensors on the CPU."""
        return tokenization.tokenize(self.tokenizer, self.config, texts, role)

    def lengths(self, texts: Sequence[str], role: Role) -> list[int]:
        """Tokens of each text as `tokenize` cuts it."""
        return tokenization.lengths(self.tokenizer, self.config, texts, role)

    def refuse_tokenless(self, texts: Iterable[str], role: Role) -> None:
        """Look, before long work, for texts that leave nothing to encode; `tokenize` finds every other such text.

        Raises:
            UserError: names the first text without a letter or digit that has no token.
        """
        suspects = tokenization.suspected_tokenless(self.tokenizer, texts)
        tokenization.refuse_tokenless(self.tokenizer, suspects, role)

    def forward(self, features: Mapping[str, Tensor], token_embeddings_1NH: Tensor | None = None) -> Tensor:
        """Encode what `tokenize` returned.

        Args:
            features: on the backbone's device; the mask may stay on the CPU where texts go without padding.
            token_embeddings_1NH: of the tokens that the mask keeps, row by row, where they were looked up already; only
                where texts go without padding.

        Returns:
            [B, H] float32 of unit length, before any `offsets`; a vector of zeros stays zeros.
        """
        assert self.config.pooling is not None
        if self.padded_because is None:
            embedding_BH = self._pooled_without_padding(features, token_embeddings_1NH)
        else:
            hidden_BTH = self.backbone(**features, return_dict=True).last_hidden_state
            embedding_BH = pool(hidden_BTH, features["attention_mask"], self.config.pooling)
        for layer in self.head:
            embedding_BH = layer(embedding_BH)
        return F.normalize(embedding_BH, dim=-1)

    def _pooled_without_padding(self, features: Mapping[str, Tensor], token_embeddings_1NH: Tensor | None) -> Tensor:
        """[B, H] float32."""
        ids_BT, backbone = features["input_ids"], self.backbone
        assert not isinstance(backbone, LaserNetwork)
        assert self.config.pooling is not None
        sequence = TokenSequence.of_mask(features["attention_mask"], ids_BT.device)
        architecture = ARCHITECTURES[backbone.config.model_type]
        inputs = backbone_inputs(sequence, architecture, features, backbone.config.pad_token_id)
        if token_embeddings_1NH is None:
            inputs["input_ids"] = sequence.flat(ids_BT)
        else:
            inputs["inputs_embeds"] = token_embeddings_1NH
        hidden_1NH = backbone(**inputs, token_sequence=sequence, return_dict=True).last_hidden_state
        return pool_sequence(hidden_1NH, sequence, self.config.pooling)

    def save(
        self,
        directory: str | Path,
        state_dict: Mapping[str, Tensor] | None = None,
        *,
        origin: Origin | None = None,
    ) -> None:
        """Write a folder in sentence-transformers' layout; it appears whole or not at all.

        `SentenceTransformer(directory)` gives the same vectors with `encode_query` (queries within their maximum
        length: it cuts both at the passages') and `encode_document`, or with the prompt names query, passage and
        document. Updates of low rank are merged into the weights; the folder's `adapter` has them by themselves.

        Args:
            directory: replaced if it exists.
            state_dict: the whole of `Encoder.state_dict()`, where this process holds only a shard of the weights.
            origin: how it was made, for the folder's README.md; by default the `card` that it was loaded with, else
                what its configuration tells.

        Raises:
            OSError: the folder cannot be written; what stood there before is untouched.
        """
        weights = dict(self.state_dict() if state_dict is None else state_dict)
        with atomic_directory(directory) as folder, quiet_transformers():
            self._save_backbone(folder, _below("backbone.", weights))
            _save_tokenizer(self.tokenizer, folder, self.config)
            write_layout(
                folder,
                config=self.config,
                width=self.backbone.config.hidden_size,
                head=list(self.head),  # type: ignore[arg-type]
                head_weights=[_below(f"head.{index}.", weights) for index in range(len(self.head))],
                offsets=self.offsets,
                prompts=self.prompts,
                dimensions=self.dimensions,
            )
            if self.debiased is not None:
                write_debiased(folder, self.debiased)
            (folder / CARD).write_text(self.model_card(origin), encoding="utf-8", errors="surrogateescape")

    def model_card(self, origin: Origin | None = None) -> str:
        """What `save` writes into README.md."""
        if origin is None and self.card is not None:
            return self.card
        return model_card(
            self.config,
            origin or saved_as_it_is(self.config),
            width=self.embedding_size,
            further=self.prompts,
            by_language=self.offsets is not None,
        )

    def _save_backbone(self, folder: Path, weights: dict[str, Tensor]) -> None:
        lora = self.config.lora
        if self.lora_layers and lora is not None:
            write_updates(folder / ADAPTER_FOLDER, weights, lora, self.lora_layers, hub_id(str(self.config.backbone)))
            weights = merged(weights, lora)
        self.backbone.save_pretrained(folder, state_dict=weights)

    @classmethod
    def load(cls, path_or_hub_id: str | Path, *, languages_known: bool = False) -> Encoder:
        """Load a folder that `save` wrote, any of sentence-transformers, a plain backbone of transformers, or LASER-2.

        What `save` wrote comes back bitwise. Another folder's prompts become the prefixes; a folder without prompts
        has none. Modes of train and eval are as torch's: the encoder comes back in eval mode.

        Args:
            languages_known: the caller knows the language of every text and hands its vectors to `offsets`.

        Raises:
            UserError: there is no such model, it cannot be fetched, or it has a module that is not supported; or its
                vectors are moved by the language of a text, which the caller does not know.
        """
        encoder = cls(*saved_parts(str(path_or_hub_id)))
        if not languages_known:
            refuse_offsets(encoder, str(path_or_hub_id))
        return encoder.eval()


def refuse_offsets(encoder: Encoder, name: str = "the model") -> None:
    """Refuse an encoder with offsets where the language of a text is not known.

    Raises:
        UserError: it has offsets.
    """
    if encoder.offsets is not None:
        raise UserError(
            f"{name}: its vectors are moved by the language of each text (hybatch debias), and here that is not known; "
            "take the model it was made of, or debias that with --method lir, which needs no language"
        )


def build_encoder(config: EncoderConfig, *, seed: int, texts: Iterable[str] | None = None) -> Encoder:
    """Build the encoder that a training run starts from, in train mode.

    Every random weight comes from `seed` alone, so that all processes of a run build the same encoder; the state of
    torch's generators is left as it was. Parameters that no embedding depends on (a pooler that is not the head) are
    frozen, since gathering their gradients would wait for ever; they are saved with the rest. With `config.lora` so is
    every weight of the backbone, and the updates beside its layers are drawn from the seed and the layer's name.

    Args:
        config: exactly one of `backbone` and `fresh` given.
        seed: of the random weights.
        texts: what a fresh backbone's tokenizer is trained on; not read otherwise.

    Raises:
        UserError: the options contradict each other or the backbone, or the backbone cannot be read or made.
    """
    check_config(config)
    encoder = Encoder(*seeded_parts(config, seed=seed, texts=texts))
    encoder.unused = frozenset(unused_parameters(encoder.backbone))
    _check_pooling(encoder)
    for name, parameter in encoder.backbone.named_parameters():
        parameter.requires_grad_(name not in encoder.unused)
    if config.lora is not None:
        encoder.lora_layers = target_layers(encoder.backbone, config.lora.targets, encoder.unused)
        add_updates(encoder.backbone, config.lora, encoder.lora_layers)
        draw_updates(encoder.backbone, encoder.lora_layers, seed)
    if config.gradient_checkpointing:
        assert not isinstance(encoder.backbone, LaserNetwork)
        if not encoder.backbone.supports_gradient_checkpointing:
            kind = encoder.backbone.config.model_type
            raise UserError(f"model.gradient_checkpointing: the architecture {kind!r} does not support it")
        # transformers' newer name, then the one before; both take torch.utils.checkpoint's options first.
        name = "activation_checkpointing_enable"
        enable = getattr(encoder.backbone, name, None) or encoder.backbone.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return encoder.train()


@torch.no_grad()
def _check_pooling(encoder: Encoder) -> None:
    """Refuse to pool a token that sees no other: `cls` of a causal backbone, `cls` and `last` of one without layers."""
    features = encoder.tokenize(["0 1 2", "3 4 5"], "query")
    with quiet_transformers():
        first, second = encoder.eval()(features)
    if torch.equal(first, second) and not torch.equal(*features["input_ids"]):
        raise UserError(
            f"model.pooling {encoder.config.pooling!r} gives every text the same vector: "
            "with this backbone that token sees none of the others; use 'mean'"
            + (" or 'last'" if encoder.config.pooling == "cls" and encoder.backbone.config.num_hidden_layers else "")
        )


def _settle_padding(config: EncoderConfig, backbone: PreTrainedModel | LaserNetwork) -> str | None:
    """Set the backbone to the attention that needs no padding; why not, where it cannot be or is not wanted.

    Raises:
        UserError: model.unpad is always, and the backbone cannot.
    """
    if config.unpad == "never":
        return "model.unpad is never"
    if isinstance(backbone, LaserNetwork):
        reason: str | None = "LASER's network takes padded texts"
    elif (attention := backbone.config._attn_implementation) not in ("sdpa", ATTENTION):
        reason = f"its attention is {attention}, not sdpa"
    else:
        reason = why_padded(backbone.config)
    if reason is None:
        assert not isinstance(backbone, LaserNetwork)
        attend_without_padding(backbone)
    elif config.unpad == "always":
        raise UserError(f"model.unpad is always, but {reason}: use auto")
    return reason


def _below(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): weight.detach().contiguous()
        for name, weight in weights.items()
        if name.startswith(prefix)
    }


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, config: EncoderConfig) -> None:
    """Save the tokenizer without the state of its last call, and with the passages' maximum as its own."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
    length = tokenizer.model_max_length
    tokenizer.model_max_length = config.passage_max_length
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:
        # The tokenizers' Rust library raises Exception itself, with the system's number in its text alone.
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error
        raise
    finally:
        tokenizer.model_max_length = length
