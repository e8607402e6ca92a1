"""The files of a configuration before they are parsed: which there are, what they say of an option, what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from hybatch.errors import UserError

# Lists of language codes, and codes with the names that files use for them, or with weights.
_LANGUAGE_OPTIONS = ("languages", "exclude_languages", "language_names", "language_weights")
_BOOLEAN = "tag:yaml.org,2002:bool"


def config_files(argv: Sequence[str]) -> list[str]:
    """The files of `--config`, in their order."""
    return [value for option, value, _ in _options(argv) if option == "--config"]


def files_named(argv: Sequence[str]) -> str:
    """For the end of a message: the files that were read, which the parser's own leaves out."""
    files = ", ".join(config_files(argv))
    return f" (read from the command line and {files})" if files else ""


def said_last(argv: Sequence[str], name: str) -> Any:
    """What the command line and its files give the option `name`, later ones before earlier; None: nothing.

    For an option on which it depends what other options there are. Files and values that cannot be read say nothing:
    the parser says what is wrong with them.
    """
    return next((value for value, _ in reversed(_said(argv, name))), None)


def with_lists_whole(argv: Sequence[str], names: Sequence[str]) -> list[str]:
    """`argv`, and behind the last saying of each list of sections what makes it hold alone.

    The parser takes the entries of a list for changes of those that an earlier list of the same length has in their
    places: the languages, columns and weight of one data set would pass to another one.
    """
    whole = list(argv)
    for name in names:
        said = _said(whole, name)
        if len(said) < 2:
            continue
        value, end = said[-1]
        entries = _parsed(value) if isinstance(value, str) else value
        if isinstance(entries, list) and entries:
            whole[end:end] = [f"--{name}=[]", f"--{name}={json.dumps(entries, default=str)}"]
    return whole


def _said(argv: Sequence[str], name: str) -> list[tuple[Any, int]]:
    """All that the command line and its files give an option, in their order: (value, where in `argv` it ends), of the
    command line as it is written."""
    found = []
    section, _, key = name.rpartition(".")
    for option, value, end in _options(argv):
        if option == f"--{name}":
            found.append((value, end))
            continue
        if option == "--config":
            holds = _held(_read(value), section) if section else _read(value)
        elif section and option == f"--{section}":
            holds = _read(value) if Path(value).is_file() else _parsed(value)
        else:
            continue
        if isinstance(holds, dict) and key in holds:
            found.append((holds[key], end))
    return found


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """(option, value, where the next argument stands)."""
    for place, (argument, following) in enumerate(zip_longest(argv, argv[1:], fillvalue="")):
        option, equals, value = argument.partition("=")
        if option.startswith("--"):
            yield (option, value, place + 1) if equals else (option, following, place + 2)


def _read(file: str) -> Any:
    try:
        return _parsed(Path(file).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        return None


def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _held(mapping: Any, key: str) -> Any:
    return mapping.get(key) if isinstance(mapping, dict) else None


def check_config_file(file: str) -> None:
    """Refuse what would be read as something else than is written; the parser says what else is wrong.

    Raises:
        UserError: the file cannot be read, is not UTF-8 text, not YAML, or holds no options; a key stands twice in one
            mapping, of which YAML's readers keep the last without a word; or a language is a word that YAML reads as
            true or false.
    """
    try:
        root = yaml.compose(Path(file).read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text (byte {error.start}); convert the file to UTF-8") from error
    except yaml.YAMLError as error:  # the parser does not say in which of several files
        raise UserError(f"{file} is not YAML: {error}") from error
    except OSError as error:
        raise UserError(f"--config {file}: {error.strerror or error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{file} holds no options: write lines such as `seed: 1`, or leave the file out")
    for mapping in _mappings(root):
        lines: dict[str, int] = {}
        for key, _ in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise UserError(
                    f"{file}:{line}: {key.value} stands here a second time, after line {lines[key.value]}; the first "
                    "would be lost: join them, or take one away"
                )
            lines[key.value] = line
    for option, word in _boolean_languages(root):
        raise UserError(f"{file}:{word.start_mark.line + 1}: {_quote(option, word)}")


def check_languages_of(argv: Sequence[str]) -> None:
    """Refuse languages on the command line that YAML reads as true or false, as in `--sampling.languages "[no, en]"`.

    Raises:
        UserError: names the option and the word.
    """
    for option, value, _ in _options(argv):
        try:
            root = yaml.compose(value, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            continue
        if root is not None:
            name = yaml.ScalarNode("tag:yaml.org,2002:str", option.rpartition(".")[2])
            for key, word in _boolean_languages(yaml.MappingNode("tag:yaml.org,2002:map", [(name, root)])):
                raise UserError(f"{option}: {_quote(key, word)}")


def _boolean_languages(root: yaml.Node | None) -> Iterator[tuple[str, yaml.ScalarNode]]:
    """The option and the word, wherever a language is one of the words that YAML reads as true or false."""
    for mapping in _mappings(root):
        for key, value in mapping.value:
            if key.value in _LANGUAGE_OPTIONS:
                yield from ((key.value, word) for word in _scalars(value) if word.tag == _BOOLEAN)


def _quote(option: str, word: yaml.ScalarNode) -> str:
    read_as = str(yaml.safe_load(word.value)).lower()
    return f"{option} has {word.value}, which YAML reads as {read_as}; quote it: '{word.value}'"


def _mappings(node: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _mappings(item)


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for part in pair:
                yield from _scalars(part)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item)
