"""The vectors that another model, a guide, gives to the texts of a run: computed once, kept in the cache, looked up.

A table is a folder: for each role `<role>.vectors.npy`, float32 [U, G] of unit length, and `<role>.keys.npy`, uint64
[U, 2], whose row says which text the vector is of (`corpus.index.keys`). Its name is made of what the guide's folder
holds and of the corpora's content, so that nothing in it can be out of date.

Shape suffixes: U distinct texts, G width of the guide, Q examples of this process, N hard-negative slots per example.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hybatch.atomic import atomic_directory
from hybatch.corpus import ParallelCorpus
from hybatch.corpus.index.keys import KeyTable, keys_of
from hybatch.evaluation.encoding.encode import encode_distinct
from hybatch.losses import GuideVectors
from hybatch.models import Encoder, Role
from hybatch.models.encoder import refuse_offsets
from hybatch.models.folder.finding import locate
from hybatch.paths import cache_directory
from hybatch.processes import fail_together, rank, run_on_main
from hybatch.training.texts import texts_in_role

_FORMAT = 1
_BATCH_SIZE = 128
# Vectors that a process holds at once while the table is made.
_TEXTS_AT_ONCE = 65536


class GuideTable:
    """Looks up the vectors of texts; reading costs O(texts asked for), the vectors stay on the disk."""

    def __init__(self, directory: Path) -> None:
        self._tables: dict[str, tuple[KeyTable, NDArray[np.float32]]] = {}
        for path in sorted(directory.glob("*.keys.npy")):
            role = path.name.removesuffix(".keys.npy")
            vectors_UG = np.load(directory / f"{role}.vectors.npy", mmap_mode="r")
            self._tables[role] = (KeyTable(np.load(path)), vectors_UG)

    def vectors(self, texts: Sequence[str], role: Role) -> NDArray[np.float32]:
        """[len(texts), G].

        Raises:
            KeyError: the table was made without one of the texts.
        """
        keys, vectors_UG = self._tables[role]
        rows = keys.find(keys_of(texts))
        if (rows < 0).any():
            raise KeyError(texts[int((rows < 0).argmax())])
        return vectors_UG[rows]

    def of_batch(
        self,
        queries: Sequence[str],
        query_role: Role,
        passages: Sequence[str],
        negatives: Mapping[int, str],
        slots: int,
    ) -> GuideVectors:
        """Those of a process's examples.

        Args:
            negatives: slot, counted over all examples -> text; those that are missing get a vector of zeros.
            slots: N, of each example.
        """
        passages_QG = self.vectors(passages, "passage")
        negatives_QNG = None
        if slots:
            flat = np.zeros((len(passages) * slots, passages_QG.shape[1]), dtype=np.float32)
            if negatives:
                flat[list(negatives)] = self.vectors(list(negatives.values()), "passage")
            negatives_QNG = torch.from_numpy(flat).unflatten(0, (len(passages), slots))
        return GuideVectors(
            queries_QG=torch.from_numpy(self.vectors(queries, query_role)),
            passages_QG=torch.from_numpy(passages_QG),
            negatives_QNG=negatives_QNG,
        )


def check_guide(model: str) -> None:
    """Look, before long work, whether there is such a model and it can be a guide.

    Raises:
        UserError: it cannot be read, or moves its vectors by language.
    """
    refuse_offsets(Encoder.load(model), f"loss.guide {model}")


def open_guide(
    model: str,
    corpora: Sequence[ParallelCorpus],
    languages: Sequence[str],
    *,
    roles: Sequence[Role],
    hard_negatives: bool,
    device: torch.device,
    say: Callable[[str], None],
) -> GuideTable:
    """The guide's vectors of all texts that a run may come to, computed first unless the cache has them; collective.

    Args:
        model: path or hub id of an encoder.
        languages: those trained on.
        roles: what texts are encoded as.
        hard_negatives: whether those of the corpora are wanted.

    Raises:
        UserError: the model, which `check_guide` has found good, gives a vector that is not finite, or a text leaves it
            nothing to encode; or the cache cannot be written, or is not the same folder on every machine.
    """
    directory = run_on_main(lambda: _directory(model, corpora, languages, roles, hard_negatives))
    if not run_on_main(lambda: directory.is_dir()):
        _write(directory, model, corpora, languages, roles, hard_negatives, device, say)
    missing = f"{directory}: the guide's vectors are not there; HYBATCH_CACHE_DIR must be one folder on all machines"
    fail_together(None if directory.is_dir() else missing)
    return GuideTable(directory)


def _directory(
    model: str, corpora: Sequence[ParallelCorpus], languages: Sequence[str], roles: Sequence[Role], hard_negatives: bool
) -> Path:
    folder = locate(model)
    texts = [[corpus.fingerprint for corpus in corpora], sorted(languages), sorted(roles), hard_negatives]
    content = json.dumps([_FORMAT, _content_of(folder), texts], sort_keys=True)
    return cache_directory() / "guides" / hashlib.sha256(content.encode()).hexdigest()[:16]


def _content_of(folder: Path) -> list[tuple[str, str]]:
    """(name, digest) of every file; of a folder in the hub's cache, whose files do not change, its commit."""
    if folder.parent.name == "snapshots":
        return [("commit", folder.name)]
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            found.append((path.relative_to(folder).as_posix(), hashlib.file_digest(file, "sha256").hexdigest()))
    return found


def _write(
    directory: Path,
    model: str,
    corpora: Sequence[ParallelCorpus],
    languages: Sequence[str],
    roles: Sequence[Role],
    hard_negatives: bool,
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """All processes encode, the first one writes."""
    encoder = Encoder.load(model).to(device)
    texts_of = {role: sorted(set(texts_in_role(corpora, languages, role, hard_negatives))) for role in roles}
    for role, texts in texts_of.items():
        encoder.refuse_tokenless(texts, role)
    number = sum(map(len, texts_of.values()))
    say(f"the guide {model} encodes {number:,} distinct texts, once; its vectors are kept in {directory}")
    slabs = ((role, rows_UG) for role, texts in texts_of.items() for rows_UG in _encoded(encoder, texts, role, model))
    problem = None
    if rank() == 0:
        try:
            _save(directory, texts_of, encoder.embedding_size, slabs)
        except OSError as error:
            problem = (
                f"{directory}: the guide's vectors cannot be written ({error.strerror or error}); "
                "set HYBATCH_CACHE_DIR to a folder with room that can be written"
            )
    # Of the other processes all, of the first what a full disk has left: encoding is collective.
    for _ in slabs:
        pass
    fail_together(problem)


def _save(
    directory: Path,
    texts_of: Mapping[Role, Sequence[str]],
    width: int,
    slabs: Iterator[tuple[Role, NDArray[np.float32]]],
) -> None:
    with atomic_directory(directory) as partial, ExitStack() as stack:
        files = {}
        for role, texts in texts_of.items():
            np.save(partial / f"{role}.keys.npy", keys_of(texts))
            # Not mapped: a full disk would end the process without a word.
            files[role] = stack.enter_context(open(partial / f"{role}.vectors.npy", "wb"))
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(texts), width)}
            np.lib.format.write_array_header_1_0(files[role], header)
        for role, rows_UG in slabs:
            files[role].write(rows_UG.data)


def _encoded(encoder: Encoder, texts: Sequence[str], role: Role, model: str) -> Iterator[NDArray[np.float32]]:
    """The vectors of one slab of texts after the other; collective."""
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        slab = texts[start : start + _TEXTS_AT_ONCE]
        yield encode_distinct(encoder, slab, role, batch_size=_BATCH_SIZE, model=model)
