"""Configs: values in range, JSON there and back, and errors that name the field."""

import dataclasses
import json

import pytest

from dnabert_jax import kmers
from dnabert_jax.config import (
    DataConfig,
    EncoderConfig,
    FinetuneConfig,
    FinetunedEncoderConfig,
    LabelledConfig,
    LoopConfig,
    MaskingConfig,
    MeshConfig,
    OptimizerConfig,
    PretrainConfig,
    differences,
    field_names,
    from_json,
    nearest_field,
    to_json,
)
from dnabert_jax.errors import InputError
from tests import tiny

PRETRAIN = PretrainConfig(
    workdir="run", encoder=tiny.ENCODER, row_length=128, data=DataConfig(path="shards", pack=False), seed=7
)
FINETUNE = FinetuneConfig(init="run", freeze_encoder=True, data=LabelledConfig(train="a.tsv", label_column=7))


def test_defaults_are_the_papers():
    encoder, masking, optimizer = EncoderConfig(), MaskingConfig(), OptimizerConfig()
    assert (encoder.k, encoder.layers, encoder.hidden, encoder.heads, encoder.intermediate) == (6, 12, 768, 12, 3072)
    assert (encoder.max_length, encoder.max_kmers, encoder.vocabulary_size) == (512, 510, 4101)
    assert (encoder.hidden_dropout, encoder.attention_dropout) == (0.1, 0.1)
    assert (masking.rate, masking.late_rate, masking.late_step) == (0.15, 0.2, 100_000)
    assert (masking.mask_share, masking.random_share) == (0.8, 0.1)
    assert (optimizer.learning_rate, optimizer.warmup_steps, optimizer.decay_steps) == (4e-4, 10_000, 200_000)
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (0.9, 0.98, 1e-6)
    assert (optimizer.weight_decay, optimizer.clip_norm) == (0.01, 1.0)


@pytest.mark.parametrize(
    "config",
    [PRETRAIN, FINETUNE, PretrainConfig(), FinetuneConfig(), tiny.ENCODER, tiny.FINETUNED],
)
def test_json_gives_the_same_config_back(config):
    text = to_json(config)
    assert from_json(type(config), text, "config.json") == config
    assert to_json(from_json(type(config), text, "config.json")) == text


@pytest.mark.parametrize("config", [PRETRAIN, FINETUNE])
def test_json_holds_every_field(config):
    def leaves(values, prefix=""):
        for name, value in values.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{name}.")
            else:
                yield prefix + name

    assert list(leaves(json.loads(to_json(config)))) == field_names(config)


def test_a_whole_number_reads_as_a_float():
    config = from_json(OptimizerConfig, '{"learning_rate": 1}', "c")
    assert config.learning_rate == 1.0
    assert type(config.learning_rate) is float


def _pretrain(**changes):
    return lambda: PretrainConfig(**changes)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: EncoderConfig(k=0), "k is 0"),
        (lambda: EncoderConfig(k=kmers.MAX_K + 1), "k is 13"),
        (lambda: EncoderConfig(layers=0), "layers is 0"),
        (lambda: EncoderConfig(hidden=30, heads=4), "hidden is 30"),
        (lambda: EncoderConfig(heads=0), "heads is 0"),
        (lambda: EncoderConfig(max_length=2), "max_length is 2"),
        (lambda: EncoderConfig(hidden_dropout=1.0), "hidden_dropout is 1.0"),
        (lambda: EncoderConfig(attention_dropout=-0.1), "attention_dropout is -0.1"),
        (lambda: EncoderConfig(layer_norm_epsilon=0.0), "layer_norm_epsilon is 0.0"),
        (lambda: EncoderConfig(layer_norm_epsilon=float("inf")), "layer_norm_epsilon is inf"),
        (lambda: EncoderConfig(layer_norm_epsilon=float("nan")), "layer_norm_epsilon is nan"),
        (lambda: EncoderConfig(initializer_range=-0.02), "initializer_range is -0.02"),
        (lambda: EncoderConfig(initializer_range=float("inf")), "initializer_range is inf"),
        (lambda: MaskingConfig(rate=0.0), "rate is 0.0"),
        (lambda: MaskingConfig(late_rate=0.9), "late_rate is 0.9"),
        (lambda: MaskingConfig(late_step=-1), "late_step is -1"),
        (lambda: MaskingConfig(span=-1), "span is -1"),
        (lambda: MaskingConfig(mask_share=1.1), "mask_share is 1.1"),
        (lambda: MaskingConfig(mask_share=0.8, random_share=0.3), "mask_share + random_share is"),
        (lambda: MaskingConfig(rate=float("nan")), "rate is nan"),
        (lambda: DataConfig(full_share=2.0), "full_share is 2.0"),
        (lambda: DataConfig(max_unknown=-0.5), "max_unknown is -0.5"),
        (lambda: DataConfig(min_kmers=0), "min_kmers is 0"),
        (lambda: DataConfig(epochs=-1), "epochs is -1"),
        (lambda: OptimizerConfig(learning_rate=0.0), "learning_rate is 0.0"),
        (lambda: OptimizerConfig(learning_rate=float("nan")), "learning_rate is nan"),
        (lambda: OptimizerConfig(learning_rate=float("inf")), "learning_rate is inf"),
        (lambda: OptimizerConfig(weight_decay=float("inf")), "weight_decay is inf"),
        (lambda: OptimizerConfig(beta2=1.0), "beta2 is 1.0"),
        (lambda: OptimizerConfig(weight_decay=-1.0), "weight_decay is -1.0"),
        (lambda: OptimizerConfig(clip_norm=0.0), "clip_norm is 0.0"),
        (lambda: OptimizerConfig(warmup_steps=11, decay_steps=10), "warmup_steps is 11"),
        (lambda: MeshConfig(data=-1), "data is -1"),
        (lambda: MeshConfig(fsdp=0), "fsdp is 0"),
        (lambda: LoopConfig(steps=0), "steps is 0"),
        (lambda: LoopConfig(keep=0), "keep is 0"),
        (lambda: LoopConfig(validate_every=-1), "validate_every is -1"),
        (_pretrain(batch_size=10, accumulation=4), "batch_size is 10"),
        (_pretrain(accumulation=0), "accumulation is 0"),
        (_pretrain(row_length=256), "row_length is 256"),
        (_pretrain(data=DataConfig(min_kmers=511)), "data.min_kmers is 511"),
        (_pretrain(masking=MaskingConfig(span=511)), "masking.span is 511"),
        (_pretrain(encoder=tiny.ENCODER, mesh=MeshConfig(tensor=3)), "mesh.tensor is 3"),
        (_pretrain(encoder=tiny.ENCODER, mesh=MeshConfig(tensor=8)), "mesh.tensor is 8"),
        (_pretrain(encoder=tiny.ENCODER, mesh=MeshConfig(fsdp=5)), "mesh.fsdp is 5"),
        (_pretrain(encoder=tiny.ENCODER, mesh=MeshConfig(tensor=4, fsdp=16)), "mesh.fsdp × mesh.tensor is 64"),
        (
            _pretrain(encoder=dataclasses.replace(tiny.ENCODER, intermediate=66), mesh=MeshConfig(tensor=4)),
            "mesh.tensor",
        ),
        (_pretrain(seed=-1), "seed is -1"),
        (_pretrain(seed=2**32), "seed is 4294967296"),
        (lambda: LabelledConfig(label_column=3), "label_column is 3"),
        (lambda: FinetuneConfig(epochs=0), "epochs is 0"),
        (lambda: FinetuneConfig(seed=-1), "seed is -1"),
        (lambda: FinetuneConfig(seed=2**63), "seed is 9223372036854775808"),
        (lambda: FinetuneConfig(learning_rate=float("inf")), "learning_rate is inf"),
        (lambda: FinetuneConfig(learning_rate=float("nan")), "learning_rate is nan"),
        (lambda: FinetuneConfig(warmup_share=1.5), "warmup_share is 1.5"),
        (lambda: FinetuneConfig(dropout=1.0), "dropout is 1.0"),
        (lambda: FinetuneConfig(weight_decay=-0.1), "weight_decay is -0.1"),
        (lambda: FinetuneConfig(encoder=tiny.FINETUNED, mesh=MeshConfig(tensor=3)), "mesh.tensor is 3"),
        (lambda: FinetuneConfig(encoder=dataclasses.replace(tiny.FINETUNED, hidden=30)), "hidden is 30"),
        (lambda: FinetuneConfig(encoder=FinetunedEncoderConfig(attention="cudnn")), "dropout is 0.1"),
    ],
)
def test_a_value_out_of_range_names_its_field(make, field):
    with pytest.raises(InputError) as caught:
        make()
    message = str(caught.value)
    assert message.startswith(field)
    assert "; expected " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "make",
    [
        lambda: EncoderConfig(k=1),
        lambda: EncoderConfig(k=kmers.MAX_K),
        lambda: EncoderConfig(max_length=3),
        lambda: EncoderConfig(hidden_dropout=0.0, attention_dropout=0.0),
        lambda: MaskingConfig(mask_share=1.0, random_share=0.0),
        lambda: MaskingConfig(mask_share=0.9, random_share=0.1),
        lambda: OptimizerConfig(warmup_steps=0, decay_steps=1),
        lambda: OptimizerConfig(warmup_steps=10, decay_steps=10),
        lambda: FinetuneConfig(warmup_share=1.0),
        lambda: PretrainConfig(row_length=512),
        lambda: PretrainConfig(data=DataConfig(min_kmers=510)),
        lambda: PretrainConfig(masking=MaskingConfig(span=510)),
        lambda: PretrainConfig(seed=2**32 - 1),
        lambda: PretrainConfig(encoder=tiny.ENCODER, mesh=MeshConfig(tensor=4, fsdp=8)),
        lambda: FinetuneConfig(mesh=MeshConfig(tensor=5)),  # the shape is not known yet
    ],
)
def test_the_ends_of_a_range_belong_to_it(make):
    make()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "config.json: no JSON"),
        ("{", "config.json: no JSON"),
        ("[1, 2]", "config.json: the config is [1, 2]; expected an object with fields"),
        ("null", "config.json: the config is None; expected an object with fields"),
        ('{"sed": 1}', "config.json: unknown field sed; did you mean seed?"),
        ('{"zzzzzz": 1}', "config.json: unknown field zzzzzz"),
        ('{"loop": {"stps": 1}}', "config.json: unknown field loop.stps; did you mean loop.steps?"),
        ('{"loop": 3}', "config.json: loop is 3; expected an object with fields"),
        ('{"seed": "one"}', "config.json: seed is 'one'; expected int"),
        ('{"seed": true}', "config.json: seed is True; expected int"),
        ('{"seed": 1.5}', "config.json: seed is 1.5; expected int"),
        ('{"data": {"pack": 1}}', "config.json: data.pack is 1; expected bool"),
        ('{"workdir": null}', "config.json: workdir is None; expected str"),
        (
            '{"data": {"method": "slice"}}',
            "config.json: data.method is 'slice'; expected one of 'cut', 'sample'",
        ),
        ('{"encoder": {"k": 0}}', "config.json: encoder.k is 0; expected a whole number from 1 to 12"),
        ('{"optimizer": {"learning_rate": NaN}}', "config.json: optimizer.learning_rate is nan; expected more than 0"),
        (
            '{"batch_size": 3, "accumulation": 2}',
            "config.json: batch_size is 3; expected a multiple of accumulation (2)",
        ),
    ],
)
def test_bad_json_says_where_and_what(text, message):
    with pytest.raises(InputError) as caught:
        from_json(PretrainConfig, text, "config.json")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"encoder": {"k": "6"}}', "config.json: encoder.k is '6'; expected int"),
        ('{"encoder": {"k": true}}', "config.json: encoder.k is True; expected int"),
        ('{"encoder": {"layer_norm_epsilon": "0"}}', "config.json: encoder.layer_norm_epsilon is '0'; expected float"),
        ('{"encoder": {"remat": null}}', "config.json: encoder.remat is None; expected one of 'none', "),
        ('{"encoder": {"hidden_dropout": 0.1}}', "config.json: unknown field encoder.hidden_dropout"),
    ],
)
def test_bad_json_of_a_finetuned_encoder(text, message):
    with pytest.raises(InputError) as caught:
        from_json(FinetuneConfig, text, "config.json")
    assert str(caught.value).startswith(message)


def test_a_finetuned_encoder_takes_what_is_missing_and_keeps_the_rest():
    asked = FinetunedEncoderConfig(k=4, remat="full", compute_dtype="bfloat16")
    assert "k" not in asked.missing
    filled = asked.filled(tiny.ENCODER)
    assert filled.missing == []
    assert (filled.k, filled.layers, filled.hidden) == (4, tiny.ENCODER.layers, tiny.ENCODER.hidden)
    assert (filled.remat, filled.compute_dtype) == ("full", "bfloat16")


@pytest.mark.parametrize(("frozen", "rate"), [(False, 0.3), (True, 0.0)])
def test_the_model_of_a_finetuning_has_its_dropout(frozen, rate):
    config = FinetuneConfig(encoder=tiny.FINETUNED, dropout=0.3, freeze_encoder=frozen)
    assert config.model == dataclasses.replace(tiny.ENCODER, hidden_dropout=rate, attention_dropout=rate)


def test_there_is_no_model_of_a_finetuning_while_something_is_missing():
    with pytest.raises(InputError, match=r"^encoder\.layers is None; expected "):
        FinetuneConfig(encoder=dataclasses.replace(tiny.FINETUNED, layers=None)).model  # noqa: B018 - it raises


def test_a_fused_kernel_is_for_encoders_without_dropout():
    encoder = FinetunedEncoderConfig(attention="pallas")
    FinetuneConfig(encoder=encoder, dropout=0.0)
    FinetuneConfig(encoder=encoder, freeze_encoder=True)


def test_field_names_are_dotted_and_complete():
    names = field_names(PretrainConfig())
    assert names[:4] == ["workdir", "init", "seed", "batch_size"]
    assert {"encoder.k", "masking.span", "data.path", "optimizer.beta2", "mesh.tensor", "loop.keep"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("loop.stps", "; did you mean loop.steps?"),
        ("learning_rate", "; did you mean optimizer.learning_rate?"),
        ("encoder.attn_dropout", "; did you mean encoder.attention_dropout?"),
        ("qqqq", ""),
    ],
)
def test_the_nearest_field(wrong, near):
    assert nearest_field(PretrainConfig(), wrong) == near


def test_differences_name_old_and_new():
    changed = dataclasses.replace(
        PRETRAIN, seed=8, encoder=dataclasses.replace(PRETRAIN.encoder, layers=3, attention_dropout=0.0)
    )
    assert differences(PRETRAIN, PRETRAIN) == []
    assert differences(PRETRAIN, changed) == [
        ("seed", 7, 8),
        ("encoder.layers", 2, 3),
        ("encoder.attention_dropout", 0.1, 0.0),
    ]


def test_configs_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRETRAIN.seed = 1
