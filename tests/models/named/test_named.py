from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from hybatch.errors import UserError
from hybatch.models import Encoder, EncoderConfig, build_encoder
from hybatch.models.folder.finding import locate
from hybatch.models.named import LABSE, NAMED_MODELS, hub_id, named_model, near_names
from hybatch.training.plan.sizes import encoder_sizes
from tests.models import published
from tests.models.backbones import TEXTS, backbone

RETRIEVAL = "Given a web search query, retrieve relevant passages that answer the query"
LENGTHS = {"query_max_length": 16, "passage_max_length": 48}
NAMES = [
    *("xlm-r-base", "xlm-r-large", "xlm-r-xl", "xlm-r-xxl", "labse", "mdeberta-v3", "mbert"),
    *("multilingual-e5-small", "multilingual-e5-base", "multilingual-e5-large"),
    *("multilingual-e5-large-instruct", "e5-mistral-7b-instruct", "bge-m3", "arctic-embed-l-v2"),
    *("gte-multilingual-base", "jina-embeddings-v3", "mmbert-small", "mmbert-base"),
    *("qwen3-embedding-0.6b", "qwen3-embedding-4b", "qwen3-embedding-8b", "embeddinggemma-300m"),
]


@torch.no_grad()
def _encode(encoder: Encoder, texts: list[str], role) -> np.ndarray:
    return encoder(encoder.tokenize(texts, role)).numpy()


@torch.no_grad()
def _tokens(model: torch.nn.Module, folder: Path, text: str) -> np.ndarray:
    """float64 [tokens, width] of one text without any padding, by transformers alone."""
    ids = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=64, return_tensors="pt")
    return model(**ids).last_hidden_state[0].double().numpy()


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt(np.sum(vector**2))


def test_every_promised_name_is_known() -> None:
    assert [model.name for model in NAMED_MODELS] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_name_a_hub_id_and_a_folder_so_called_speak_of_the_same_model(name, tmp_path) -> None:
    model = named_model(name)
    assert model is not None
    last = model.hub_id.rpartition("/")[2]
    for other in (name.upper(), model.hub_id, f"{tmp_path}/{name}", f"{tmp_path}/{last}/", f"./{last}"):
        assert named_model(other) is model
    for other in (f"{name}-mine", f"someone/else-{last}", f"{tmp_path}/{name}/best"):
        assert named_model(other) is None


def test_a_name_is_fetched_by_its_hub_id(monkeypatch, tmp_path) -> None:
    asked = []
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr(
        "hybatch.models.folder.finding.snapshot_download", lambda name, **_: asked.append(name) or str(tmp_path)
    )
    monkeypatch.chdir(tmp_path)
    assert locate("labse") == tmp_path
    assert asked == ["sentence-transformers/LaBSE"]


def test_a_folder_here_goes_before_the_model_of_its_name(monkeypatch, tmp_path) -> None:
    published.publish_mbert(tmp_path / "mbert")
    monkeypatch.chdir(tmp_path)
    assert locate("mbert") == Path("mbert")
    assert Encoder.load("mbert").embedding_size == published.WIDTH


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("multilingual-e5-bas", "multilingual-e5-base"),
        ("xlm-r", "xlm-r-base"),
        ("lapse", "labse"),
        ("mdeberta", "mdeberta-v3"),
        ("bgem3", "bge-m3"),
        ("laser2", "laser2.cvocab"),
        ("zzzz", "known by name: xlm-r-base"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_near_ones(given, hint, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=f"{given}: .*could not be fetched.*{hint}"):
        Encoder.load(given)


def test_a_known_name_that_cannot_be_fetched_is_not_called_unknown(monkeypatch) -> None:
    monkeypatch.setattr("hybatch.models.folder.finding.snapshot_download", _offline)
    with pytest.raises(UserError, match="could not be fetched") as caught:
        Encoder.load("bge-m3")
    assert "near names" not in str(caught.value)
    assert near_names("bge-m3").startswith("; near names")


def _offline(*_: object, **__: object) -> None:
    raise OSError("offline")


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        ("multilingual-e5-small", ("query: ", "passage: ")),
        ("intfloat/multilingual-e5-large", ("query: ", "passage: ")),
        ("bge-m3", ("", "")),
        ("Qwen/Qwen3-Embedding-4B", (f"Instruct: {RETRIEVAL}\nQuery:", "")),
        ("e5-mistral-7b-instruct", (f"Instruct: {RETRIEVAL}\nQuery: ", "")),
        ("embeddinggemma-300m", ("task: search result | query: ", "title: none | text: ")),
        ("arctic-embed-l-v2", ("query: ", "")),
        ("labse", ("Query: ", "Passage: ")),
        ("xlm-r-large", ("Query: ", "Passage: ")),
        ("someone/else", ("Query: ", "Passage: ")),
    ],
)
def test_a_recipe_has_the_model_s_prefixes_unless_it_gives_its_own(name, prefixes, monkeypatch) -> None:
    monkeypatch.setattr("hybatch.models.folder.prompts.hf_hub_download", _offline)
    config = EncoderConfig(backbone=name)
    assert (config.query_prefix, config.passage_prefix) == prefixes
    own = EncoderConfig(backbone=name, query_prefix="", passage_prefix="text: ")
    assert (own.query_prefix, own.passage_prefix) == ("", "text: ")


@pytest.mark.parametrize("name", ["mine", "multilingual-e5-small"])
def test_a_folder_trained_further_keeps_its_own_prompts(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("hybatch.models.folder.prompts.hf_hub_download", lambda *_: pytest.fail("the hub was asked"))
    folder = tmp_path / name
    folder.mkdir()
    prompts = folder / "config_sentence_transformers.json"
    prompts.write_text(json.dumps({"prompts": {"query": "ask: ", "document": "", "passage": "say: "}}))
    monkeypatch.setenv("MODELS", str(tmp_path))
    for given in (str(folder), f"$MODELS/{name}"):
        config = EncoderConfig(backbone=given)
        assert (config.query_prefix, config.passage_prefix) == ("ask: ", "say: ")
    prompts.write_text("{")
    with pytest.raises(UserError, match=r"config_sentence_transformers\.json: is not valid JSON"):
        EncoderConfig(backbone=str(folder))


@pytest.mark.parametrize(
    ("prompts", "prefixes"),
    [
        ({"query": "ask: ", "document": ""}, ("ask: ", "")),
        ({"query": "", "document": "say: "}, ("", "say: ")),
        ({"query": "", "document": ""}, ("Query: ", "Passage: ")),
        ({"query": "ask: "}, ("ask: ", "Passage: ")),
    ],
)
def test_an_empty_prompt_beside_one_that_is_not_says_that_there_is_none(prompts, prefixes, tmp_path: Path) -> None:
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    config = EncoderConfig(backbone=str(tmp_path))
    assert (config.query_prefix, config.passage_prefix) == prefixes


def test_a_model_of_the_hub_trained_further_keeps_its_own_prompts(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "ask: "}}))
    asked = []
    fetch = lambda *given: asked.append(given) or str(tmp_path / given[1])  # noqa: E731
    monkeypatch.setattr("hybatch.models.folder.prompts.hf_hub_download", fetch)
    config = EncoderConfig(backbone="someone/else")
    assert (config.query_prefix, config.passage_prefix) == ("ask: ", "Passage: ")
    assert asked == [("someone/else", "config_sentence_transformers.json")]


@pytest.mark.parametrize("name", ["xlm-r-base", "labse", "mdeberta-v3"])
def test_a_run_can_be_planned_by_name_without_a_connection(name) -> None:
    by_name = encoder_sizes(EncoderConfig(backbone=name))
    assert by_name.parameters == encoder_sizes(EncoderConfig(backbone=hub_id(name))).parameters > 10**8


def test_labse_s_vector_is_tanh_of_its_dense_layer_over_the_first_token(tmp_path) -> None:
    folder = tmp_path / "LaBSE"
    published.publish_sentence_encoder(folder, "labse", "cls_token", dense=True)
    encoder = Encoder.load(folder)
    weights = torch.load(folder / "2_Dense" / "pytorch_model.bin", weights_only=True)
    matrix, bias = (weights[f"linear.{name}"].double().numpy() for name in ("weight", "bias"))
    for text, vector in zip(TEXTS, _encode(encoder, TEXTS, "query"), strict=True):
        first = _tokens(backbone("labse"), folder, text)[0]
        np.testing.assert_allclose(vector, _unit(np.tanh(matrix @ first + bias)), atol=2e-6)
    assert len(encoder.head) == 1, "never the pooler too"


def test_labse_without_a_dense_folder_takes_bert_s_pooler(tmp_path) -> None:
    folder = tmp_path / "labse"
    model = backbone("labse")
    published.publish_sentence_encoder(folder, "labse", "cls_token")
    (folder / "modules.json").unlink()
    matrix, bias = model.pooler.dense.weight.double(), model.pooler.dense.bias.double()
    for text, vector in zip(TEXTS, _encode(Encoder.load(folder), TEXTS, "passage"), strict=True):
        first = _tokens(model, folder, text)[0]
        expected = np.tanh(matrix.detach().numpy() @ first + bias.detach().numpy())
        np.testing.assert_allclose(vector, _unit(expected), atol=2e-6)


@pytest.mark.parametrize(
    ("name", "pooling", "prefixes"),
    [("multilingual-e5-base", "mean_tokens", ("query: ", "passage: ")), ("bge-m3", "cls_token", ("", ""))],
)
@pytest.mark.parametrize("says_its_pooling", [True, False])
def test_e5_and_bge_m3_are_encoded_as_their_cards_say(name, pooling, prefixes, says_its_pooling, tmp_path) -> None:
    folder = tmp_path / name
    published.publish_sentence_encoder(folder, "xlm-roberta", pooling)
    # BGE-M3's other heads lie beside the backbone and belong to other scores.
    torch.save({"weight": torch.zeros(1)}, folder / "sparse_linear.pt")
    if not says_its_pooling:
        (folder / "modules.json").unlink()
    encoder = Encoder.load(folder)
    for role, prefix in zip(("query", "passage"), prefixes, strict=True):
        for text, vector in zip(TEXTS, _encode(encoder, TEXTS, role), strict=True):
            tokens = _tokens(backbone("xlm-roberta"), folder, prefix + text)
            expected = tokens[0] if pooling == "cls_token" else tokens.sum(axis=0) / len(tokens)
            np.testing.assert_allclose(vector, _unit(expected), atol=2e-6)


def test_an_evaluation_cuts_at_what_the_folder_says_else_at_what_the_model_was_made_for(tmp_path, monkeypatch) -> None:
    made_for_ten = replace(LABSE, max_length=10)
    monkeypatch.setattr("hybatch.models.parts.named_model", lambda _: made_for_ten)
    folder = tmp_path / "labse"
    published.publish_sentence_encoder(folder, "labse", "cls_token", dense=True)
    assert Encoder.load(folder).config.passage_max_length == 64
    (folder / "sentence_bert_config.json").unlink()
    assert Encoder.load(folder).config.passage_max_length == 10


def test_a_model_without_a_table_of_positions_is_cut_at_what_it_was_made_for(tmp_path) -> None:
    published.publish_mdeberta(tmp_path / "mdeberta-v3")
    assert Encoder.load(tmp_path / "mdeberta-v3").config.passage_max_length == 512


def test_a_folder_s_own_prompts_win_over_the_table_but_empty_ones_do_not(tmp_path) -> None:
    folder = tmp_path / "multilingual-e5-base"
    published.publish_sentence_encoder(folder, "xlm-roberta", "mean_tokens")
    prompts = folder / "config_sentence_transformers.json"
    prompts.write_text('{"prompts": {"query": "", "document": ""}}')
    assert Encoder.load(folder).config.query_prefix == "query: "
    prompts.write_text('{"prompts": {"query": "q: ", "document": "d: "}}')
    config = Encoder.load(folder).config
    assert (config.query_prefix, config.passage_prefix) == ("q: ", "d: ")


def test_an_explicit_pooling_and_head_win_over_the_table(tmp_path) -> None:
    folder = tmp_path / "bge-m3"
    published.publish_sentence_encoder(folder, "xlm-roberta", "cls_token")
    (folder / "modules.json").unlink()
    by_table = build_encoder(EncoderConfig(backbone=str(folder), **LENGTHS), seed=0)
    assert (by_table.config.pooling, by_table.config.head) == ("cls", "none")
    own = build_encoder(EncoderConfig(backbone=str(folder), pooling="mean", head="dense", **LENGTHS), seed=0)
    assert (own.config.pooling, own.config.head) == ("mean", "dense")


@pytest.mark.parametrize(
    ("name", "publish", "body"),
    [
        ("mdeberta-v3-base", published.publish_mdeberta, "deberta"),
        ("bert-base-multilingual-cased", published.publish_mbert, "bert"),
        ("xlm-roberta-base", published.publish_xlmr, "roberta"),
    ],
)
def test_a_published_language_model_loads_as_the_mean_of_its_tokens(name, publish, body, tmp_path) -> None:
    folder = tmp_path / name
    model = getattr(publish(folder), body)
    encoder = Encoder.load(folder)
    assert encoder.config.prefix("query") == encoder.config.prefix("passage") == ""
    texts = [text for text in TEXTS if len(AutoTokenizer.from_pretrained(folder)(text)["input_ids"]) <= 64]
    assert len(texts) >= 3
    for text, vector in zip(texts, _encode(encoder, texts, "query"), strict=True):
        np.testing.assert_allclose(vector, _unit(_tokens(model, folder, text).mean(axis=0)), atol=2e-6)


@pytest.mark.parametrize("given", ["nomic-embed-text-v2-moe", "nomic-ai/nomic-embed-text-v2-moe"])
def test_a_model_that_only_its_code_can_read_is_refused_before_it_is_fetched(given, monkeypatch) -> None:
    monkeypatch.setattr("hybatch.models.folder.finding.snapshot_download", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(UserError, match=f"{given}: needs code .* runs no code of a model: .* gte-multilingual-base"):
        Encoder.load(given)


@pytest.mark.parametrize(
    ("code", "settings", "advice"),
    [
        ("Alibaba-NLP/new-impl--modeling.NewModel", {"model_type": "new"}, "alibaba-nlp-community/gte-multilingual"),
        ("jinaai/xlm-roberta-flash-implementation--modeling_lora.X", {}, "jinaai/jina-embeddings-v3-hf"),
        ("nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel", {}, "without experts"),
        ("modeling.Own", {}, "use a model of an architecture that transformers has"),
    ],
)
def test_a_folder_that_only_its_code_can_read_is_refused_with_what_to_do(code, settings, advice, tmp_path) -> None:
    """Also one whose architecture has the name of one that transformers has, and weights of other names."""
    folder = tmp_path / "model"
    published.publish_sentence_encoder(folder, "xlm-roberta", "cls_token")
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": code, "AutoModel": code}
    (folder / "config.json").write_text(json.dumps({**config, **settings, "auto_map": auto_map}))
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("query", "Wqkv"): weight for name, weight in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"runs no code of a model: .*{advice}"):
        Encoder.load(folder)


def test_the_page_on_encoders_lists_every_name_with_address_source_and_licence() -> None:
    page = (Path(__file__).parents[3] / "docs" / "encoders.md").read_text(encoding="utf-8")
    for model in NAMED_MODELS:
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{model.name}`")]
        assert all(part in row for part in (model.hub_id, model.source, model.licence, str(model.max_length)))
