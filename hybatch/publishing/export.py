"""`hybatch export`: write an encoder for another runtime."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import ModelCardData

from hybatch.atomic import atomic_directory
from hybatch.errors import UserError
from hybatch.models import Encoder
from hybatch.models.card import CARD, BaseModel, base_model, versions_used
from hybatch.models.card.base import front_matter
from hybatch.models.encoder import refuse_offsets
from hybatch.models.folder.finding import finished_encoder, locate
from hybatch.models.folder.json_files import write_json
from hybatch.models.folder.prompts import PROMPTS
from hybatch.models.laser import LaserTokenizer
from hybatch.paths import check_new_folder, expand_path, folder_of, last_part
from hybatch.publishing.onnx_graph import GRAPH, TOLERANCE, import_onnx, largest_difference, write_graph

SUMMARY = "write an encoder for another runtime (ONNX)"


def main(argv: Sequence[str]) -> int:
    """Run `hybatch export` and return its exit code.

    Raises:
        UserError: the packages of ONNX are missing, the folder holds no encoder or one that cannot be exported, the
            graph's vectors are not the encoder's, or the output is there already or cannot be written.
    """
    arguments = _parser().parse_args(argv)
    import_onnx()
    check_new_folder(arguments.output, "--output")
    folder = finished_encoder(locate(arguments.model), "MODEL")
    # A hub id and a short name tell more than the folder in the hub's cache.
    model = str(folder) if Path(expand_path(arguments.model, "MODEL")).is_dir() else arguments.model
    encoder = Encoder.load(model, languages_known=True)
    check_exportable(encoder, str(folder))
    try:
        with atomic_directory(arguments.output) as partial:
            write_graph(encoder, partial / GRAPH)
            difference = largest_difference(encoder, partial / GRAPH)
            if not difference <= TOLERANCE:  # also where it is no number
                raise UserError(
                    f"{folder}: the exported graph's vectors are {difference:.1e} from the encoder's, more than "
                    f"{TOLERANCE:g}; its architecture, {encoder.backbone.config.model_type}, is not exported right"
                )
            languages = front_matter(folder / CARD).get("language")
            _write_beside(
                encoder, partial, name=last_part(arguments.model), base=base_model(model), languages=languages
            )
    except OSError as error:
        raise UserError(f"--output {arguments.output}: cannot be written ({error.strerror or error})") from error
    print(f"wrote {arguments.output}: {GRAPH}, whose vectors are at most {difference:.1e} from the encoder's")
    return 0


def check_exportable(encoder: Encoder, name: str) -> None:
    """Refuse what one graph with a tokenizer file cannot say.

    Raises:
        UserError: LASER-2, offsets of languages, or a tokenizer that is Python alone.
    """
    refuse_offsets(encoder, name)
    if isinstance(encoder.tokenizer, LaserTokenizer):
        raise UserError(f"{name}: LASER-2 cannot be exported, its tokenizer is no file that other runtimes read")
    if not encoder.tokenizer.is_fast:
        kind = type(encoder.tokenizer).__name__
        raise UserError(f"{name}: its tokenizer ({kind}) is Python alone, and no tokenizer.json can be written of it")


def _write_beside(encoder: Encoder, folder: Path, *, name: str, base: BaseModel, languages: Any) -> None:
    """What is needed beside the graph: tokenizer, prompts, and a page that says how to put them together."""
    config, tokenizer = encoder.config, encoder.tokenizer
    assert not isinstance(tokenizer, LaserTokenizer)
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    backend.save(str(folder / "tokenizer.json"))
    own = {"query": config.query_prefix, "passage": config.passage_prefix, "document": config.passage_prefix}
    write_json(folder / PROMPTS, {"prompts": {**own, **encoder.prompts}, "similarity_fn_name": "cosine"})
    head = ModelCardData(
        language=languages,
        license=base.licence,
        base_model=base.hub_id,
        library_name="onnx",
        pipeline_tag="sentence-similarity",
        tags=["onnx", "sentence-similarity", "hybatch"],
    )
    text = _template().render(
        name=name,
        graph=GRAPH,
        prompts=PROMPTS,
        config=config,
        width=encoder.embedding_size,
        pad_id=tokenizer.pad_token_id,
        pad_token=tokenizer.pad_token,
        versions=versions_used(),
    )
    (folder / CARD).write_text(f"---\n{head.to_yaml()}\n---\n\n{text}", encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=False, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(files("hybatch.publishing").joinpath("onnx.md.j2").read_text(encoding="utf-8"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hybatch export", description=SUMMARY[0].upper() + SUMMARY[1:] + ".")
    parser.add_argument("model", metavar="MODEL", help="a training run's folder, a saved encoder or a hub id")
    parser.add_argument("--to", required=True, choices=["onnx"], help="onnx: one graph, from tokens to unit vectors")
    parser.add_argument("--output", required=True, type=folder_of("--output"), metavar="DIR", help="a new folder")
    return parser
