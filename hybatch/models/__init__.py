"""Encoders: a backbone with pooling, prefixes and normalisation; built, saved and loaded."""

from hybatch.models.config import EncoderConfig, FreshBackboneConfig, PoolingMode, Role
from hybatch.models.encoder import Encoder, build_encoder

__all__ = ["Encoder", "EncoderConfig", "FreshBackboneConfig", "PoolingMode", "Role", "build_encoder"]
