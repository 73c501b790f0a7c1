"""The actions of judged runs, played again without their agent, make the students that were scored."""

import pytest

from experiments.running.directory import RunDirectory
from experiments.running.judged_again import judged_again
from experiments.running.rounds import row_action
from fusion_env.errors import ConfigError
from fusion_env.task import build_task


def test_judged_runs_are_made_again_to_the_last_digit(across: RunDirectory) -> None:
    config, summary = across.read_config(), across.summary.read()
    task = build_task(config.env)
    actions = [row_action(row) for row in across.rounds.read() if row["phase"] == "evaluate"]
    again = judged_again(task, protocol="across", seed=config.seed, runs=[actions])
    report = summary["ranked"]
    assert again == {
        "report_gap": report["final"]["e"] - report["teacher"]["e"],
        "report_mae": report["final"]["mae"],
        "mean_reward": summary["return"] / config.env.rounds,
        "judged_rounds": summary["judged_rounds"],
        "failed_runs": summary["failed_runs"],
    }
    cut_off = judged_again(task, protocol="across", seed=config.seed, runs=[])
    assert cut_off["report_gap"] == pytest.approx(-1 - report["teacher"]["e"])
    assert (cut_off["judged_rounds"], cut_off["failed_runs"], cut_off["mean_reward"]) == (0, 1, -1.0)
    with pytest.raises(ConfigError, match=f"judged run 1 has {len(actions) + 1} actions, but ends before"):
        judged_again(task, protocol="across", seed=config.seed, runs=[[*actions, actions[0]]])
