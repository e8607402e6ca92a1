from __future__ import annotations

import json
import logging
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from hybatch.errors import UserError
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, build_encoder
from tests.models.backbones import TEXTS, save_backbone

CASES = [
    ("xlm-roberta", "cls", None),
    ("xlm-roberta", "mean", "dense"),
    ("xlm-roberta-xl", "mean", None),
    ("mbert", "last", None),
    ("mbert", "mean", "dense"),
    ("mdeberta", "mean", None),
    ("labse", "cls", "pooler"),
    ("qwen3", "last", None),
]


def _encoder(architecture: str, folder: Path, **options) -> Encoder:
    backbone = save_backbone(folder, architecture)
    lengths = {"query_max_length": 20, "passage_max_length": 30}
    return build_encoder(EncoderConfig(backbone=str(backbone), **{**lengths, **options}), seed=0).eval()


@torch.no_grad()
def _encode(encoder: Encoder, texts: list[str], role) -> torch.Tensor:
    return encoder(encoder.tokenize(texts, role))


def _within(encoder: Encoder, texts: list[str]) -> list[str]:
    limit = encoder.config.query_max_length
    return [t for t in texts if len(encoder.tokenizer(encoder.config.query_prefix + t)["input_ids"]) <= limit]


def _assert_agrees(reference: SentenceTransformer, encoder: Encoder) -> None:
    queries = _within(encoder, [*TEXTS, "what", "wer?"])
    assert len(queries) >= 2
    for theirs, role, texts in (
        (reference.encode_query(queries), "query", queries),
        (reference.encode(queries, prompt_name="query"), "query", queries),
        (reference.encode_document(TEXTS), "passage", TEXTS),
        (reference.encode(TEXTS, prompt_name="document"), "passage", TEXTS),
        (reference.encode(TEXTS, prompt_name="passage"), "passage", TEXTS),
    ):
        torch.testing.assert_close(torch.from_numpy(theirs), _encode(encoder, texts, role), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("architecture", "pooling", "head"), CASES)
def test_sentence_transformers_gives_the_same_vectors_without_a_warning(
    architecture, pooling, head, tmp_path, caplog
) -> None:
    encoder = _encoder(architecture, tmp_path, pooling=pooling, head=head)
    encoder.save(tmp_path / "saved")
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        reference = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert reference.max_seq_length == 30
    _assert_agrees(reference, encoder)
    # The prefixes do differ, so agreement says that each role got its own.
    assert not torch.equal(_encode(encoder, ["short"], "query"), _encode(encoder, ["short"], "passage"))


@pytest.mark.parametrize(("architecture", "pooling", "head"), CASES)
def test_a_saved_encoder_comes_back_bitwise(architecture, pooling, head, tmp_path) -> None:
    encoder = _encoder(architecture, tmp_path, pooling=pooling, head=head)
    encoder.save(tmp_path / "saved")
    loaded = Encoder.load(tmp_path / "saved")
    theirs = loaded.state_dict()
    assert theirs.keys() == encoder.state_dict().keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in encoder.state_dict().items())
    for role in ("query", "passage"):
        assert torch.equal(_encode(loaded, TEXTS, role), _encode(encoder, TEXTS, role))
    assert (loaded.config.query_prefix, loaded.config.query_max_length) == ("Query: ", 20)


def test_a_fresh_encoder_saves_the_same_bytes_twice_whatever_was_tokenized_between(tmp_path) -> None:
    fresh = FreshBackboneConfig(width=32, layers=0, vocabulary_size=400)
    encoder = build_encoder(EncoderConfig(fresh=fresh), seed=0, texts=TEXTS)
    encoder.save(tmp_path / "first")
    encoder.tokenize(TEXTS, "query")
    encoder.save(tmp_path / "second")
    files = sorted(p.relative_to(tmp_path / "first") for p in (tmp_path / "first").rglob("*") if p.is_file())
    assert Path("hybatch.json") in files
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file
    again = Encoder.load(tmp_path / "second")
    assert again.config.fresh == fresh
    assert torch.equal(_encode(again, TEXTS, "query"), _encode(encoder.eval(), TEXTS, "query"))
    reference = SentenceTransformer(str(tmp_path / "second"), device="cpu")
    _assert_agrees(reference, encoder)
    spelt = ["<pad>", "<s>old</s> price", "a <mask> b"]
    theirs = torch.from_numpy(reference.encode_document(spelt))
    torch.testing.assert_close(theirs, _encode(encoder, spelt, "passage"), atol=1e-5, rtol=0)


def test_the_dimensions_that_vectors_can_be_cut_to_come_back_and_a_folder_without_them_says_nothing(tmp_path) -> None:
    encoder = _encoder("mbert", tmp_path)
    encoder.save(tmp_path / "plain")
    assert json.loads((tmp_path / "plain" / "hybatch.json").read_text()).keys() == {"hybatch", "encoder"}
    encoder.dimensions = (encoder.embedding_size, 8)
    encoder.save(tmp_path / "saved")
    assert Encoder.load(tmp_path / "saved").dimensions == (encoder.embedding_size, 8)
    # They are of the loss that it was trained with, not of one that it goes on with.
    config = EncoderConfig(backbone=str(tmp_path / "saved"), query_max_length=20, passage_max_length=30)
    assert build_encoder(config, seed=0).dimensions == ()
    path = tmp_path / "saved" / "hybatch.json"
    path.write_text(path.read_text().replace("8\n  ]", '"eight"\n  ]'))
    with pytest.raises(UserError, match=r"hybatch\.json: was not written by a release like this one"):
        Encoder.load(tmp_path / "saved")


def test_weights_may_come_from_elsewhere(tmp_path) -> None:
    encoder = _encoder("mbert", tmp_path, head="dense")
    encoder.save(tmp_path / "saved", state_dict={k: v + 1 for k, v in encoder.state_dict().items()})
    loaded = Encoder.load(tmp_path / "saved").state_dict()
    assert all(torch.equal(loaded[name], weight + 1) for name, weight in encoder.state_dict().items())


def test_a_failed_save_leaves_what_stood_there(tmp_path, monkeypatch) -> None:
    encoder = _encoder("mbert", tmp_path)
    encoder.save(tmp_path / "saved")
    before = sorted(tmp_path.rglob("*"))

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hybatch.models.encoder.write_layout", full_disk)
    with pytest.raises(OSError, match="No space left"):
        encoder.save(tmp_path / "saved")
    assert sorted(tmp_path.rglob("*")) == before


def _their_folder(folder: Path, architecture: str, pooling: str, *, dense: bool, prompts: dict[str, str]) -> Path:
    """A folder that sentence-transformers wrote itself."""
    transformer = Transformer(str(save_backbone(folder, architecture)), max_seq_length=24)
    torch.manual_seed(5)
    modules = [transformer, Pooling(32, pooling), *([Dense(32, 12)] if dense else []), Normalize()]
    SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(str(folder / "theirs"))
    return folder / "theirs"


@pytest.mark.parametrize(
    ("architecture", "pooling", "dense"),
    [
        ("xlm-roberta", "mean", False),
        ("xlm-roberta", "max", False),
        ("mbert", "lasttoken", True),
        ("labse", "cls", True),
        ("mdeberta", "cls", False),
    ],
)
def test_a_folder_of_sentence_transformers_loads_as_it_describes_itself(architecture, pooling, dense, tmp_path) -> None:
    folder = _their_folder(tmp_path, architecture, pooling, dense=dense, prompts={"query": "q: ", "document": "d: "})
    encoder = Encoder.load(folder)
    reference = SentenceTransformer(str(folder), device="cpu")
    for theirs, role in ((reference.encode_query(TEXTS), "query"), (reference.encode_document(TEXTS), "passage")):
        torch.testing.assert_close(torch.from_numpy(theirs), _encode(encoder, TEXTS, role), atol=1e-5, rtol=0)
    assert (encoder.config.query_prefix, encoder.config.passage_prefix) == ("q: ", "d: ")
    assert encoder.config.passage_max_length == 24
    assert len(encoder.head) == int(dense)


def test_labse_s_own_dense_layer_takes_the_place_of_the_pooler(tmp_path) -> None:
    folder = _their_folder(tmp_path, "labse", "cls", dense=True, prompts={})
    labse = folder.rename(tmp_path / "LaBSE")
    encoder = build_encoder(EncoderConfig(backbone=str(labse), passage_max_length=64), seed=0)
    assert (encoder.config.pooling, encoder.config.head, len(encoder.head)) == ("cls", "dense", 1)
    reference = SentenceTransformer(str(labse), device="cpu")
    torch.testing.assert_close(encoder.head[0].linear.weight, reference[2].linear.weight)
    with pytest.raises(UserError, match="must not follow"):
        build_encoder(EncoderConfig(backbone=str(labse), passage_max_length=64, head="pooler"), seed=0)


@pytest.mark.parametrize(("key", "mode"), [("cls_token", "cls"), ("mean_tokens", "mean"), ("lasttoken", "lasttoken")])
def test_the_layout_of_older_releases_is_read(key, mode, tmp_path) -> None:
    folder = _their_folder(tmp_path, "mbert", mode, dense=True, prompts={})
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    pooling = {f"pooling_mode_{name}": name == key for name in ("cls_token", "max_tokens", "mean_tokens", "lasttoken")}
    (old / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    modules = json.loads((old / "modules.json").read_text())
    for module in modules:
        module["type"] = "sentence_transformers.models." + module["type"].rpartition(".")[2]
    (old / "0_Transformer").mkdir()
    modules[0]["path"] = "0_Transformer"
    (old / "modules.json").write_text(json.dumps(modules))
    (old / "config_sentence_transformers.json").unlink()
    for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (old / file).rename(old / "0_Transformer" / file)
    (old / "sentence_bert_config.json").unlink()
    (old / "0_Transformer" / "sentence_bert_config.json").write_text('{"max_seq_length": 24, "do_lower_case": true}')
    weights = SentenceTransformer(str(folder), device="cpu")[2].state_dict()
    torch.save(weights, old / "2_Dense" / "pytorch_model.bin")
    (old / "2_Dense" / "model.safetensors").unlink()
    encoder = Encoder.load(old)
    reference = SentenceTransformer(str(old), device="cpu")
    theirs = torch.from_numpy(reference.encode(TEXTS))
    torch.testing.assert_close(theirs, _encode(encoder, TEXTS, "query"), atol=1e-5, rtol=0)
    assert torch.equal(_encode(encoder, ["WIEN"], "query"), _encode(encoder, ["wien"], "query"))


@pytest.mark.parametrize("architecture", ["xlm-roberta", "labse"])
def test_a_plain_folder_of_transformers_loads_with_the_backbone_s_habits_and_no_prefix(architecture, tmp_path) -> None:
    encoder = Encoder.load(save_backbone(tmp_path, architecture))
    assert encoder.config.pooling == ("cls" if architecture == "labse" else "mean")
    assert (encoder.config.query_prefix, encoder.config.passage_prefix) == ("", "")
    assert encoder.config.passage_max_length == 64
    assert _encode(encoder, TEXTS * 3 + ["long " * 200], "passage").shape == (22, 32)


def test_a_new_training_run_keeps_the_prompts_of_a_folder_and_not_its_lengths(tmp_path) -> None:
    folder = _their_folder(tmp_path, "mbert", "mean", dense=False, prompts={"query": "q: ", "document": "d: "})
    encoder = build_encoder(EncoderConfig(backbone=str(folder), passage_max_length=40), seed=0)
    assert (encoder.config.query_prefix, encoder.config.passage_max_length) == ("q: ", 40)
    assert encoder.config.passage_prefix == "d: "


def test_pooling_that_contradicts_the_folder_is_an_error(tmp_path) -> None:
    folder = _their_folder(tmp_path, "mbert", "mean", dense=False, prompts={})
    with pytest.raises(UserError, match=r"model\.pooling is 'cls'.*was made with 'mean'"):
        build_encoder(EncoderConfig(backbone=str(folder), pooling="cls"), seed=0)


def _edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_this_encoder_cannot_do_is_refused_by_name(tmp_path) -> None:
    folder = _their_folder(tmp_path, "mbert", "mean", dense=True, prompts={})
    _edit(folder / "1_Pooling" / "config.json", pooling_mode=["mean", "max"])
    with pytest.raises(UserError, match=r"1_Pooling/config\.json: pools by mean \+ max"):
        Encoder.load(folder)
    _edit(folder / "1_Pooling" / "config.json", pooling_mode="mean", include_prompt=False)
    with pytest.raises(UserError, match="include_prompt"):
        Encoder.load(folder)
    _edit(folder / "1_Pooling" / "config.json", include_prompt=True)
    _edit(folder / "2_Dense" / "config.json", activation_function="os.system")
    with pytest.raises(UserError, match="activation_function"):
        Encoder.load(folder)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([{**modules[0], "type": "x.StaticEmbedding"}, modules[3]]))
    with pytest.raises(UserError, match="StaticEmbedding, Normalize; only"):
        Encoder.load(folder)
    (folder / "modules.json").write_text("{")
    with pytest.raises(UserError, match=r"modules\.json: is not valid JSON"):
        Encoder.load(folder)


def test_a_folder_without_a_model_says_what_is_missing(tmp_path) -> None:
    with pytest.raises(UserError, match=r"config\.json; weights.*; a tokenizer"):
        Encoder.load(tmp_path)
    folder = save_backbone(tmp_path, "mbert")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"these are missing: weights \(model\.safetensors"):
        Encoder.load(folder)


def test_weights_of_another_backbone_are_not_replaced_by_random_ones(tmp_path) -> None:
    folder = save_backbone(tmp_path, "mbert")
    other = save_backbone(tmp_path, "mdeberta")
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(UserError, match=r"weights lack|another shape"):
        Encoder.load(folder)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "not a model id!", "./missing", "a/b/c"])
def test_a_model_that_cannot_be_had_is_an_error_of_the_user(name, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"there is no such folder|could not be fetched from the hub"):
        Encoder.load(name)
