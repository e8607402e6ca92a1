"""Texts through a backbone as one sequence of tokens: nothing but attention knows where one text ends."""

from hybatch.models.unpadded.architectures import ARCHITECTURES, Architecture, why_padded
from hybatch.models.unpadded.attention import ATTENTION, attend_without_padding, register_attention
from hybatch.models.unpadded.sequence import TokenSequence

__all__ = [
    "ARCHITECTURES",
    "ATTENTION",
    "Architecture",
    "TokenSequence",
    "attend_without_padding",
    "register_attention",
    "why_padded",
]
