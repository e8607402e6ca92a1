"""The facts: entities of several kinds, each with the values of its relations, named in every language.

`data/entities/<kind>.tsv` has a row per entity: its key, one column per relation (a key of the relation's vocabulary,
or the value itself where it has none; empty where the fact is missing or disputed) and its name in each language.
`data/values/<vocabulary>.tsv` has a row per value: its key and its name in each language. A kind serves as a
vocabulary, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hybatch.corpus.embedded.templates import DATA, LANGUAGES, Kind, Relation, load_kinds

Names = dict[str, str]
Table = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Entity:
    """Something facts are about; `names` holds its name per language."""

    kind: str
    key: str
    names: Names


@dataclass(frozen=True)
class Fact:
    """That a relation of an entity has a value; `values` holds the value's name per language."""

    entity: Entity
    relation: str
    values: Names

    @property
    def key(self) -> str:
        """Names the fact: kind/entity/relation."""
        return f"{self.entity.kind}/{self.entity.key}/{self.relation}"


@cache
def load_facts() -> tuple[Fact, ...]:
    """All facts, kind by kind, in the order of the files.

    Raises:
        ValueError: a row has too few columns, no name in some language, or a value that no vocabulary knows; two
            entities share a key or a name; a file's columns are not the relations of its kind.
    """
    kinds = load_kinds()
    tables = {path.stem: read_table(path) for folder in ("values", "entities") for path in _tables(folder)}
    for kind in kinds.values():
        columns = ["key", *kind.relations, *LANGUAGES]
        row = next(iter(tables[kind.name].values()))
        if list(row) != columns:
            raise ValueError(f"{kind.name}.tsv: columns are {list(row)}, expected {columns}")
    _check_names(tables, list(kinds))
    return tuple(fact for kind in kinds.values() for fact in _facts_of(kind, tables))


def read_table(path: Path) -> Table:
    """Rows by key of a tab-separated file whose first line names the columns.

    Raises:
        ValueError: a row has another number of columns, a key stands twice, a name is empty.
    """
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    columns = header.split("\t")
    rows: Table = {}
    for number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise ValueError(f"{path.name}:{number}: {len(cells)} columns, expected {len(columns)}")
        row = dict(zip(columns, cells, strict=True))
        if row["key"] in rows:
            raise ValueError(f"{path.name}:{number}: the key {row['key']!r} stands twice")
        empty = [language for language in LANGUAGES if not row[language].strip()]
        if empty:
            raise ValueError(f"{path.name}:{number}: no name in {', '.join(empty)}")
        rows[row["key"]] = row
    return rows


def _tables(folder: str) -> list[Path]:
    return sorted((DATA / folder).glob("*.tsv"))


def _check_names(tables: dict[str, Table], kinds: list[str]) -> None:
    for language in LANGUAGES:
        owners: dict[str, str] = {}
        for kind in kinds:
            for key, row in tables[kind].items():
                name = row[language].casefold()
                if name in owners:
                    raise ValueError(f"{language}: {row[language]!r} names both {owners[name]} and {kind}/{key}")
                owners[name] = f"{kind}/{key}"


def _facts_of(kind: Kind, tables: dict[str, Table]) -> Iterator[Fact]:
    for key, row in tables[kind.name].items():
        entity = Entity(kind.name, key, {language: row[language] for language in LANGUAGES})
        for relation in kind.relations.values():
            if row[relation.name]:
                values = _value_names(relation, row[relation.name], tables, f"{kind.name}.tsv: {key}")
                yield Fact(entity, relation.name, values)


def _value_names(relation: Relation, value: str, tables: dict[str, Table], where: str) -> Names:
    if not relation.vocabulary:
        return dict.fromkeys(LANGUAGES, value)
    for vocabulary in relation.vocabulary:
        if value in tables[vocabulary]:
            return {language: tables[vocabulary][value][language] for language in LANGUAGES}
    raise ValueError(f"{where}: {relation.name} {value!r} is in none of {', '.join(relation.vocabulary)}")
