"""Recipes: those that come with the project hold the paper's values, and a bad one is told in one line."""

import dataclasses
import runpy
import shutil

import pytest

from dnabert_jax import recipes
from dnabert_jax.config import FinetuneConfig, MaskingConfig, OptimizerConfig, PretrainConfig
from dnabert_jax.errors import InputError

PRETRAINING = ("demo", "dnabert3", "dnabert4", "dnabert5", "dnabert6", "dnabert6_4096", "small")
FINE_TUNING = ("demo_splice", "promoter", "small_promoter", "small_splice", "small_tfbs", "splice", "tfbs")


def test_names_lists_every_recipe():
    assert recipes.names() == sorted([*PRETRAINING, *FINE_TUNING])


@pytest.mark.parametrize("installed", [False, True], ids=["checkout", "wheel"])
def test_a_wheel_has_its_recipes_inside_whatever_lies_beside_it(tmp_path, installed):
    (tmp_path / "package").mkdir()
    shutil.copy(recipes.__file__, tmp_path / "package" / "recipes.py")
    for folder, name in (("configs", "beside"), ("package/configs", "inside"))[: 1 + installed]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").touch()
    copy = runpy.run_path(str(tmp_path / "package" / "recipes.py"))
    assert copy["names"]() == ["inside" if installed else "beside"]


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining_recipes_load(name):
    assert isinstance(recipes.load(name, PretrainConfig), PretrainConfig)


@pytest.mark.parametrize("name", FINE_TUNING)
def test_fine_tuning_recipes_load(name):
    assert isinstance(recipes.load(name, FinetuneConfig), FinetuneConfig)


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_the_papers_recipes_state_the_papers_values(k):
    config = recipes.load(f"dnabert{k}", PretrainConfig)
    encoder = config.encoder
    assert encoder.k == k
    assert encoder.vocabulary_size == 4**k + 5
    assert (encoder.layers, encoder.hidden, encoder.heads, encoder.intermediate) == (12, 768, 12, 3072)
    assert (encoder.max_length, encoder.hidden_dropout, encoder.attention_dropout) == (512, 0.1, 0.1)
    assert config.masking == MaskingConfig(rate=0.15, late_rate=0.2, late_step=100_000)
    assert config.optimizer == OptimizerConfig(
        learning_rate=4e-4,
        warmup_steps=10_000,
        decay_steps=200_000,
        beta1=0.9,
        beta2=0.98,
        epsilon=1e-6,
        weight_decay=0.01,
        clip_norm=1.0,
    )
    assert (config.batch_size, config.loop.steps, config.row_length) == (2_000, 120_000, 512)
    assert (config.data.full_share, config.data.min_kmers) == (0.5, 5)


def test_the_papers_recipes_differ_in_k_alone():
    first, *others = (recipes.load(f"dnabert{k}", PretrainConfig) for k in (3, 4, 5, 6))
    for other in others:
        assert dataclasses.replace(other, encoder=dataclasses.replace(other.encoder, k=3)) == first


def test_the_recipe_at_4096_tokens_is_the_papers_but_for_what_length_asks():
    paper, config = recipes.load("dnabert6", PretrainConfig), recipes.load("dnabert6_4096", PretrainConfig)
    assert (config.row_length, config.encoder.max_length, config.encoder.positions) == (4_096, 4_096, "rotary")
    assert config.encoder.attention_dropout == 0  # fused attention kernels take no other
    tokens = config.batch_size * config.row_length
    assert tokens == pytest.approx(paper.batch_size * paper.row_length, rel=0.03)
    encoder = dataclasses.replace(
        config.encoder, max_length=512, positions="learned", attention_dropout=0.1, remat=paper.encoder.remat
    )
    loop = dataclasses.replace(config.loop, validation_rows=paper.loop.validation_rows)
    shape = {"batch_size": paper.batch_size, "accumulation": paper.accumulation, "row_length": paper.row_length}
    assert dataclasses.replace(config, encoder=encoder, loop=loop, **shape) == paper


def test_a_recipe_by_its_path(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from dnabert_jax.config import PretrainConfig\n\nconfig = PretrainConfig(seed=11)\n")
    assert recipes.load(str(file), PretrainConfig) == PretrainConfig(seed=11)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("dnabert7", "unknown recipe 'dnabert7'; did you mean dnabert"),
        ("spliced", "unknown recipe 'spliced'; did you mean splice?"),
        ("zzz", "unknown recipe 'zzz'; expected one of demo, "),
        ("", "unknown recipe ''; expected one of demo, "),
    ],
)
def test_an_unknown_name_gets_the_nearest(recipe, said):
    with pytest.raises(InputError) as caught:
        recipes.load(recipe, PretrainConfig)
    assert str(caught.value).startswith(said)
    assert ", or a .py file" in str(caught.value)


def test_a_missing_file_lists_the_names(tmp_path):
    file = tmp_path / "none.py"
    with pytest.raises(InputError, match="no such recipe file; the recipes by name are demo, "):
        recipes.load(str(file), PretrainConfig)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "sets `config` to nothing; expected a PretrainConfig"),
        ("config = 3\n", "sets `config` to int; expected a PretrainConfig"),
        (
            "from dnabert_jax.config import FinetuneConfig\nconfig = FinetuneConfig()\n",
            "sets `config` to FinetuneConfig; expected a PretrainConfig",
        ),
        ("\nraise ValueError('first\\nsecond')\n", "line 2: ValueError: first second"),
        ("raise ValueError\n", "line 1: ValueError"),
        ("raise SystemExit(0)\n", "line 1: SystemExit: 0"),
        (
            "from dnabert_jax.config import PretrainConfig\nconfig = PretrainConfig(batchsize=3)\n",
            "line 2: unknown field batchsize; did you mean batch_size?",
        ),
        (
            "from dnabert_jax.config import PretrainConfig\nconfig = PretrainConfig(batch_size=0)\n",
            "line 2: batch_size is 0; expected more than 0",
        ),
    ],
)
def test_a_recipe_that_gives_no_config(tmp_path, source, said):
    file = tmp_path / "bad.py"
    file.write_text(source)
    with pytest.raises(InputError) as caught:
        recipes.load(str(file), PretrainConfig)
    assert str(caught.value) == f"{file}: {said}"


def test_a_recipe_that_is_no_python(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("config = (\n")
    with pytest.raises(InputError) as caught:
        recipes.load(str(file), PretrainConfig)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
