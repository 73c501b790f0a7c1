import dataclasses
import json

import pytest

from fusion_env.config import (
    PRESETS,
    DataSettings,
    DistillConfig,
    MachineSettings,
    ScoringSettings,
    TeacherSettings,
    TrainingSettings,
    preset,
)
from fusion_env.errors import ConfigError, UnknownNameError


@pytest.mark.parametrize("name", PRESETS.names())
def test_every_preset_survives_json(name: str) -> None:
    config = preset(name)
    assert DistillConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_demo_is_the_default() -> None:
    assert preset("demo") == DistillConfig()


def test_paper_preset_holds_the_papers_numbers() -> None:
    config = preset("paper")
    assert (config.batch_size, config.learning_rate, config.stage0_rounds, config.rounds) == (24, 0.002, 20, 100)
    assert (config.update, config.schedule, config.stage0_schedule) == ("sum", "constant", "constant")
    assert (config.loss_scale, config.perception, config.iqa, config.teacher) == ("none", "vgg19", "clip", "ldfusion")
    assert config.iterations is None  # a round is an epoch


def test_every_setting_is_in_one_group() -> None:
    groups = (DataSettings, TeacherSettings, TrainingSettings, ScoringSettings, MachineSettings)
    names = [item.name for group in groups for item in dataclasses.fields(group)]
    assert names == [item.name for item in dataclasses.fields(DistillConfig)]
    assert len(set(names)) == len(names)


def test_a_group_has_the_configurations_values() -> None:
    config = preset("tiny", threads=3)
    assert config.group(MachineSettings) == MachineSettings(threads=3)
    assert config.group(DataSettings).crop_size == 32


def test_a_group_checks_itself() -> None:
    with pytest.raises(ConfigError, match="nothing to train"):
        TrainingSettings(guidance=False, self_learning=False)


def test_every_field_explains_itself() -> None:
    assert all(len(item.metadata["help"]) > 10 for item in dataclasses.fields(DistillConfig))


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'batch_size'"):
        preset("tiny", batchsize=3)
    with pytest.raises(UnknownNameError, match="Did you mean 'demo'"):
        preset("demoo")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be in 1..4096"),
        ({"batch_size": 2.5}, "batch_size must be of type int"),
        ({"batch_size": True}, "batch_size must be of type int"),
        ({"batch_size": None}, "batch_size must not be None"),
        ({"learning_rate": float("nan")}, "learning_rate must be of type float"),
        ({"reward": "both"}, "reward must be one of gap, gap_delta"),
        ({"bank_size": 0}, "bank_size must be at least 1. Got 0"),
        ({"score_size": 40}, "score_size must be in 41"),
        ({"divergence_reward": 0.5}, "divergence_reward must be at most 0"),
        ({"guidance": False, "self_learning": False}, "nothing to train"),
        ({"score_size": 64, "score_crops": 8, "score_images": 99}, "score_images=99 is more than score_crops=8"),
        ({"score_images": 3, "score_limit": 2}, "score_images=3 is more than score_limit=2"),
        ({"score_crops": 8}, "score_size=None and score_crops=8: crops need both, whole images neither"),
        ({"score_size": 64}, "score_size=64 and score_crops=None"),
        ({"score_size": 64, "score_crops": 8, "score_limit": 2}, "score_limit is a number of whole images"),
        ({"normalisation": "minmax"}, "minmax_bounds with ten numbers"),
        ({"normalisation": "minmax", "minmax_bounds": (1.0, 0.0) * 5}, "low < high"),
        ({"minmax_bounds": (0.0, 1.0) * 5}, "only used with normalisation='minmax'"),
        ({"score_metrics": ()}, "score_metrics is empty"),
        ({"teacher": "folder"}, "teacher_weights=DIR"),
        ({"data": ""}, "data must be of type str"),
        ({"camera": "rough", "score_size": 64, "score_crops": 8}, "camera='rough' is of whole images: leave out"),
        ({"conditions": ["day"], "data": "pairs"}, "conditions=.'day',. are of procedural scenes: leave it out"),
    ],
)
def test_bad_values_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        preset("demo", **changes)


def test_an_unknown_condition_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown condition in test_conditions 'nigth'. Did you mean 'night'"):
        preset("demo", test_conditions=["nigth"])


def test_configurations_can_be_keys() -> None:
    assert len({preset("tiny"), preset("tiny"), preset("tiny", rounds=3)}) == 2


def test_a_clip_model_needs_clip() -> None:
    assert preset("demo", iqa="clip", iqa_model="ViT-B-32").iqa_model == "ViT-B-32"
    with pytest.raises(ConfigError, match="iqa_model='ViT-B-32' is only used"):
        preset("demo", iqa_model="ViT-B-32")
