"""LASER-2's way from a text to token ids: Moses' clean-up, lower case, sentencepiece, the vocabulary's ids."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import sentencepiece

from hybatch.errors import UserError

# The publisher's code puts these four there, whatever the vocabulary's file says.
_SPECIAL_IDS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
_END, _UNKNOWN = _SPECIAL_IDS["</s>"], _SPECIAL_IDS["<unk>"]


class LaserTokenizer:
    """Texts to ids, each text ended by `</s>`; pieces that the vocabulary lacks become `<unk>`.

    A text is cleaned as in the publisher's pipeline: characters that do not print (Unicode category C) become spaces,
    as Moses' remove-non-printing-char does; punctuation is normalised as by Moses' normalize-punctuation for English,
    which the publisher uses for every language; the case is lowered.

    Args:
        spm_file: the sentencepiece model.
        ids: of the pieces.

    Raises:
        UserError: the sentencepiece model cannot be read or has other pieces, or sacremoses is not installed.
    """

    pad_token_id = _SPECIAL_IDS["<pad>"]

    def __init__(self, spm_file: Path, ids: Mapping[str, int]) -> None:
        try:
            from sacremoses import MosesPunctNormalizer
        except ImportError as error:
            raise UserError(
                "LASER needs sacremoses for its punctuation: pip install 'hybatch[laser]', or pip install sacremoses"
            ) from error
        self._punctuation = MosesPunctNormalizer("en")
        self._ids = {**ids, **_SPECIAL_IDS}
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(spm_file))
        except (OSError, RuntimeError) as error:
            raise UserError(f"{spm_file}: is not a sentencepiece model ({error})") from error
        pieces = [self._pieces.id_to_piece(index) for index in range(self._pieces.get_piece_size())]
        known = sum(piece in self._ids for piece in pieces)
        if 2 * known < len(pieces):
            raise UserError(
                f"{spm_file}: the vocabulary knows only {known:,} of its {len(pieces):,} pieces: "
                "the two files do not belong together"
            )

    def clean(self, text: str) -> str:
        """What sentencepiece gets to see of a text."""
        printed = "".join(" " if unicodedata.category(letter)[0] == "C" else letter for letter in text)
        return self._punctuation.normalize(printed).lower()

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """The ids of each text, `</s>` included in at most max_length."""
        cleaned = [self.clean(text) for text in texts]
        # Joined and split again as the publisher's code passes the pieces on: a piece of white space vanishes.
        rows = [" ".join(pieces).split() for pieces in self._pieces.encode(cleaned, out_type=str)]
        return [[*(self._ids.get(piece, _UNKNOWN) for piece in row[: max_length - 1]), _END] for row in rows]

    def get_vocab(self) -> dict[str, int]:
        """Pieces and their ids, the special ones included."""
        return dict(self._ids)
