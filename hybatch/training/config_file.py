"""What the parser of configurations lets pass in a file: a key that stands twice, bytes that are no text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from hybatch.errors import UserError


def check_config_file(file: str) -> None:
    """Refuse what would be read as something else than is written; the parser says what else is wrong.

    Raises:
        UserError: a key stands twice in one mapping, of which YAML's readers keep the last without a word; or the file
            is not UTF-8 text.
    """
    try:
        root = yaml.compose(Path(file).read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text (byte {error.start}); convert the file to UTF-8") from error
    except (OSError, yaml.YAMLError):
        return
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


def _mappings(node: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _mappings(item)
