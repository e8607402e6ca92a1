from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from hybatch.errors import UserError
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, build_encoder
from hybatch.models.backbone.traits import max_positions, unused_parameters
from tests.models.backbones import TEXTS, backbone, save_backbone, tokenizer
from tests.processes import run_processes

ARCHITECTURES = ["xlm-roberta", "xlm-roberta-xl", "mbert", "labse", "mdeberta", "qwen3"]


def _fresh(**settings) -> FreshBackboneConfig:
    return FreshBackboneConfig(**{"width": 32, "layers": 1, "heads": 2, "vocabulary_size": 400, **settings})


def _encoder(architecture: str, tmp_path: Path, **options) -> Encoder:
    folder = save_backbone(tmp_path, architecture)
    lengths = {"query_max_length": 16, "passage_max_length": 48}
    return build_encoder(EncoderConfig(backbone=str(folder), **{**lengths, **options}), seed=0)


@torch.no_grad()
def _encode(encoder: Encoder, texts: list[str], role="passage") -> torch.Tensor:
    return encoder.eval()(encoder.tokenize(texts, role))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_text_has_the_same_vector_whatever_pads_its_batch(architecture, tmp_path) -> None:
    encoder = _encoder(architecture, tmp_path, pooling="last" if architecture == "qwen3" else None)
    together = _encode(encoder, TEXTS)
    alone = torch.cat([_encode(encoder, [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    # The oracle can fail: these texts do have different vectors.
    assert (together[0] - together[1]).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("architecture", "layers", "pooling"), [("qwen3", 1, "cls"), ("bert", 0, "cls"), ("bert", 0, "last")]
)
def test_pooling_a_token_that_sees_no_other_is_an_error(architecture, layers, pooling) -> None:
    options = {"head_dim": 16} if architecture == "qwen3" else {}
    fresh = _fresh(architecture=architecture, layers=layers, options=options)
    with pytest.raises(UserError, match=f"{pooling}.*gives every text the same vector"):
        build_encoder(EncoderConfig(fresh=fresh, pooling=pooling), seed=0, texts=TEXTS)


def test_embeddings_are_fp32_of_unit_length_also_under_autocast(tmp_path) -> None:
    encoder = _encoder("xlm-roberta", tmp_path, head="dense", head_size=12)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = _encode(encoder, TEXTS)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (len(TEXTS), encoder.embedding_size) == (len(TEXTS), 12)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(TEXTS)))


def test_a_vector_of_zeros_stays_zeros_and_keeps_gradients_finite(tmp_path) -> None:
    encoder = _encoder("mbert", tmp_path, head="dense")
    torch.nn.init.zeros_(encoder.head[0].linear.weight)
    torch.nn.init.zeros_(encoder.head[0].linear.bias)
    embeddings = encoder(encoder.tokenize(TEXTS[:2], "query"))
    embeddings.sum().backward()
    assert torch.equal(embeddings, torch.zeros_like(embeddings))
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_the_role_s_prefix_is_part_of_what_is_encoded(tmp_path) -> None:
    prefixed = _encoder("xlm-roberta", tmp_path, query_prefix="ask: ", passage_prefix="")
    torch.testing.assert_close(
        _encode(prefixed, ["short"], "query"), _encode(prefixed, ["ask: short"], "passage"), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("architecture", ["xlm-roberta", "mbert", "mdeberta"])
def test_gradient_checkpointing_gives_the_same_gradients(architecture, tmp_path) -> None:
    plain = _encoder(architecture, tmp_path)
    checkpointed = _encoder(architecture, tmp_path, gradient_checkpointing=True)
    assert any(getattr(module, "gradient_checkpointing", False) for module in checkpointed.modules())
    direction = torch.randn(len(TEXTS), 32, generator=torch.Generator().manual_seed(1))
    for encoder in (plain, checkpointed):
        torch.manual_seed(3)  # dropout is active, and must be replayed
        (encoder(encoder.tokenize(TEXTS, "passage")) * direction).sum().backward()
    others = dict(checkpointed.named_parameters())
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, others[name].grad)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exactly_the_parameters_that_no_embedding_depends_on_are_frozen(architecture, tmp_path) -> None:
    encoder = _encoder(architecture, tmp_path)
    encoder(encoder.tokenize(TEXTS, "passage")).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name


def test_an_unused_pooler_is_found_without_a_backward_pass() -> None:
    assert unused_parameters(backbone("mbert")) == {"pooler.dense.weight", "pooler.dense.bias"}


@pytest.mark.parametrize(("architecture", "limit"), [("xlm-roberta", 64), ("xlm-roberta-xl", 64), ("mbert", 64)])
def test_the_longest_input_is_what_the_backbone_really_takes(architecture, limit) -> None:
    model = backbone(architecture)
    assert max_positions(model) == limit
    for length in (limit, limit + 1):
        ids = torch.full((1, length), 5)
        if length <= limit:
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
        else:
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_relative_positions_set_no_limit() -> None:
    assert max_positions(backbone("mdeberta")) is None


@pytest.mark.parametrize(
    ("architecture", "pooling", "head"),
    [
        ("xlm-roberta", "mean", "none"),
        ("mdeberta", "mean", "none"),
        ("mbert", "mean", "none"),
        ("labse", "cls", "pooler"),
    ],
)
def test_pooling_and_head_follow_the_backbone_s_habit(architecture, pooling, head, tmp_path) -> None:
    config = _encoder(architecture, tmp_path).config
    assert (config.pooling, config.head) == (pooling, head)


def test_labse_s_head_is_its_pooler(tmp_path) -> None:
    encoder = _encoder("labse", tmp_path)
    features = encoder.tokenize(TEXTS, "query")
    with torch.no_grad():
        expected = torch.nn.functional.normalize(backbone("labse")(**features).pooler_output)
    torch.testing.assert_close(_encode(encoder, TEXTS, "query"), expected)
    assert len(encoder.head) == 1


@pytest.mark.parametrize("architecture", ["jina_embeddings_v3", "nomic_bert", "bert", "xlm-roberta", "eurobert"])
def test_a_fresh_backbone_without_layers_averages_its_token_embeddings(architecture) -> None:
    encoder = build_encoder(EncoderConfig(fresh=_fresh(architecture=architecture, layers=0)), seed=0, texts=TEXTS)
    embeddings = _encode(encoder, TEXTS)
    assert torch.isfinite(embeddings).all()
    words = encoder.tokenizer("river capital")["input_ids"]
    if max_positions(encoder.backbone) is None:
        features = {"input_ids": torch.tensor([words]), "attention_mask": torch.ones(1, len(words), dtype=torch.int64)}
        shuffled = {**features, "input_ids": features["input_ids"].flip(1)}
        with torch.no_grad():
            torch.testing.assert_close(encoder(features), encoder(shuffled))


@pytest.mark.parametrize(
    "architecture", ["xlm-roberta", "bert", "distilbert", "t5", "modernbert", "gpt2", "deberta-v2"]
)
def test_any_text_architecture_can_be_made_fresh_with_our_names_for_its_settings(architecture) -> None:
    fresh = _fresh(architecture=architecture, intermediate_size=48, dropout=0.0)
    encoder = build_encoder(EncoderConfig(fresh=fresh, query_max_length=20, passage_max_length=30), seed=0, texts=TEXTS)
    limit = max_positions(encoder.backbone)
    assert limit is None or limit >= 30
    assert encoder.embedding_size == 32
    shapes = {dimension for parameter in encoder.parameters() for dimension in parameter.shape}
    assert shapes & {48, 96}  # gated feed-forward blocks join two such matrices
    first, second = (encoder(encoder.tokenize(TEXTS, "query")) for _ in range(2))
    assert torch.equal(first, second), "dropout 0 leaves nothing random in train mode"


def _parts(config: EncoderConfig, texts: list[str]) -> tuple[dict[str, torch.Tensor], str]:
    encoder = build_encoder(config, seed=7, texts=texts)
    return encoder.state_dict(), encoder.tokenizer.backend_tokenizer.to_str()


def test_the_seed_alone_decides_weights_and_tokenizer_in_another_process_too() -> None:
    config = EncoderConfig(fresh=_fresh(), head="dense")
    alone, tokenizer_alone = _parts(config, TEXTS)
    [(weights, trained)] = run_processes(_parts, 1, config, TEXTS)
    assert trained == tokenizer_alone
    assert all(torch.equal(weights[name], alone[name]) for name in alone)
    other = build_encoder(config, seed=8, texts=TEXTS).state_dict()
    assert not torch.equal(other["head.0.linear.weight"], alone["head.0.linear.weight"])


def test_building_leaves_torch_s_generator_and_the_given_configuration_as_they_were() -> None:
    config = EncoderConfig(fresh=_fresh())
    before, state = copy.deepcopy(config), torch.get_rng_state()
    build_encoder(config, seed=1, texts=TEXTS)
    assert torch.equal(torch.get_rng_state(), state)
    assert config == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EncoderConfig(), "neither is given"),
        (EncoderConfig(backbone="x", fresh=_fresh()), "both are given"),
        (EncoderConfig(fresh=_fresh(architecture="xlm-robert")), "near names: .*xlm-roberta"),
        (EncoderConfig(fresh=_fresh(options={"hidden_sise": 3})), "near names: .*hidden_size"),
        (EncoderConfig(fresh=_fresh(architecture="vit")), "encodes no text"),
        (EncoderConfig(fresh=_fresh(heads=5)), r"model\.fresh\.heads is 5: does not divide"),
        (EncoderConfig(fresh=_fresh(architecture="modernbert", layers=0)), "cannot be built"),
        (EncoderConfig(fresh=_fresh(architecture="deberta-v2", layers=0)), "cannot encode a text"),
        (EncoderConfig(fresh=_fresh(architecture="bart")), "no encoder of its own"),
        (EncoderConfig(fresh=_fresh(max_positions=20)), r"model\.fresh\.max_positions is 20, but .* 256 tokens"),
        (EncoderConfig(fresh=_fresh(), head="pooler", pooling="mean"), "reads the first token"),
        (EncoderConfig(fresh=_fresh(), head="pooler"), "needs a pretrained BERT"),
        (EncoderConfig(fresh=_fresh(), head_size=8), "without model.head"),
        (EncoderConfig(fresh=_fresh(architecture="deberta-v2"), attn_implementation="sdpa"), "cannot be built"),
    ],
)
def test_options_that_cannot_work_are_named(config, message) -> None:
    with pytest.raises(UserError, match=message):
        build_encoder(config, seed=0, texts=TEXTS)


def test_an_xlnet_narrower_than_its_usual_head_can_be_made() -> None:
    encoder = build_encoder(EncoderConfig(fresh=_fresh(architecture="xlnet", width=24, heads=2)), seed=0, texts=TEXTS)
    assert encoder.embedding_size == 24


def test_a_fresh_backbone_needs_texts() -> None:
    with pytest.raises(UserError, match="needs texts"):
        build_encoder(EncoderConfig(fresh=_fresh()), seed=0)


@pytest.mark.parametrize("architecture", ["xlm-roberta", "mbert"])
def test_a_maximum_length_beyond_the_positions_names_option_and_limit(architecture, tmp_path) -> None:
    with pytest.raises(UserError, match=r"model\.passage_max_length is 65.*only 64 tokens"):
        _encoder(architecture, tmp_path, passage_max_length=65)
    assert _encoder(architecture, tmp_path, passage_max_length=64).config.passage_max_length == 64


def test_a_pooler_that_the_folder_does_not_hold_cannot_become_the_head(tmp_path) -> None:
    with pytest.raises(UserError, match="holds no pooler"):
        _encoder("mdeberta", tmp_path, head="pooler")


def test_tokenize_leaves_tensors_on_the_cpu_that_the_backbone_takes(tmp_path) -> None:
    encoder = _encoder("xlm-roberta", tmp_path)
    features = encoder.tokenize(TEXTS, "query")
    assert set(features) == set(tokenizer().model_input_names)
    assert all(feature.dtype == torch.int64 and feature.device.type == "cpu" for feature in features.values())
