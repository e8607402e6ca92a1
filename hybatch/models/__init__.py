"""Encoders: a backbone with pooling, prefixes and normalisation; built, saved and loaded."""

from hybatch.models.config import EncoderConfig, FreshBackboneConfig, PoolingMode, Role
from hybatch.models.encoder import Encoder, build_encoder
from hybatch.models.language_offsets import LanguageOffsets

__all__ = ["Encoder", "EncoderConfig", "FreshBackboneConfig", "LanguageOffsets", "PoolingMode", "Role", "build_encoder"]
