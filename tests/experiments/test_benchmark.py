import csv
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.benchmark import _grid, _parser, main
from experiments.benchmarking.grid import Grid, parse_seeds
from experiments.running import policies
from experiments.running.directory import RunDirectory
from fusion_env.errors import ConfigError, FusionEnvError
from tests.experiments.processes import start, wait_until, workers_of

ALGOS = ("reinforce", "constant", "random")
ROUNDS = 4

POLICY = """
import numpy as np

from fusion_env.action import ACTION_SIZE


class Alternating:
    def __init__(self, high=0.5):
        self.high = high

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        count = 0 if state is None or episode_start[0] else state + 1
        return np.full((len(observation), ACTION_SIZE), self.high if count % 2 else -1.0), count
"""


def arguments(cache: str, out: Path, *more: str, algos: tuple[str, ...] = ALGOS, rounds: int = ROUNDS) -> list[str]:
    common = ["--preset", "tiny", "--cache-dir", cache, "--rounds", str(rounds), "--seeds", "0-2", "--out", str(out)]
    common += ["--stage0-seeds", "0-2", "--data-seeds", "0"]  # few starts are made sooner
    return [*common, "--batch-size", "1", "--score-crops", "1", "--agents", *algos, *more]


def raw(out: Path) -> list[dict[str, str]]:
    with (out / "raw.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if not name.startswith(("seconds", "command"))} for row in rows]


def steps_of(row: dict[str, str], out: Path) -> list[dict[str, str]]:
    folder = out / "runs" / f"{row['policy']}-laplacian-procedural"
    return RunDirectory(folder / row["seed"]).rounds.read()


@pytest.fixture(scope="module")
def inline(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("inline")
    assert main(arguments(cache, out)) == 0
    return out


@pytest.mark.slow
def test_outputs(inline: Path) -> None:
    rows = raw(inline)
    assert [(row["policy"], row["seed"], row["stage0_seed"]) for row in rows] == [
        (policy, str(seed), str(seed)) for policy in ALGOS for seed in range(3)
    ]
    assert all(row["learning_rounds"] == row["judged_rounds"] == str(ROUNDS) for row in rows)
    assert {row["gradient_updates"] for row in rows if row["policy"] == "constant"} == {"0"}
    assert {row["gradient_updates"] for row in rows if row["policy"] == "reinforce"} == {str(ROUNDS)}
    assert len({row["mean_reward"] for row in rows}) == len(rows)
    results = (inline / "results.md").read_text()
    assert "python experiments/benchmark.py --preset tiny" in results
    assert "torch " in results
    assert all(f"| {name} |" in results for name in ALGOS)
    for name in ("learning_curves.png", "schedules.png"):
        assert np.asarray(Image.open(inline / name)).std() > 10


@pytest.mark.slow
def test_raw_rows_are_what_the_runs_left(inline: Path) -> None:
    for row in raw(inline):
        rewards = [float(step["reward"]) for step in steps_of(row, inline)]
        assert float(row["mean_reward"]) == pytest.approx(np.mean(rewards))


@pytest.mark.slow
def test_finished_runs_are_not_repeated(cache: str, inline: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in inline.glob("runs/**/student.safetensors")}
    assert len(files) == 9
    assert main(arguments(cache, inline)) == 0
    assert files == {path: path.stat().st_mtime_ns for path in inline.glob("runs/**/student.safetensors")}


@pytest.mark.slow
def test_ray_gives_the_same_numbers(cache: str, inline: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    assert main(arguments(cache, tmp_path, "--executor", "ray", "--seeds", "0", algos=ALGOS[:2])) == 0
    expected = [row for row in raw(inline) if row["seed"] == "0" and row["policy"] in ALGOS[:2]]
    assert raw(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers through /proc")
def test_pool_gives_the_same_numbers_whoever_is_killed(cache: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    grid = {"algos": ("reinforce", "ppo"), "rounds": 30}
    command = arguments(cache, cut, "--seeds", "0-1", "--executor", "pool", "--workers", "2", **grid)

    def finished() -> int:
        return len(list(cut.glob("runs/*/*/summary.json")))

    def running() -> int:
        return len(list(cut.glob("runs/*/*/rounds.csv")))

    driver = start("benchmark.py", command)
    wait_until(lambda: finished() >= 1 and running() > finished(), driver)
    workers = workers_of(driver.pid)
    assert workers
    driver.kill()
    driver.communicate(timeout=60)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))  # or they outlive their driver
    before = finished()
    assert before < 4

    driver = start("benchmark.py", command)
    wait_until(lambda: len(workers_of(driver.pid)) == 2 and running() > finished(), driver)
    time.sleep(1)
    os.kill(workers_of(driver.pid)[0], signal.SIGKILL)
    printed, _ = driver.communicate(timeout=180)
    assert driver.returncode == 0, printed
    assert "a worker process died" in printed
    assert main(arguments(cache, whole, "--seeds", "0-1", **grid)) == 0
    assert raw(cut) == raw(whole)


@pytest.mark.slow
def test_across(cache: str, tmp_path: Path) -> None:
    algos = ("reinforce", "random-search", "linear")
    more = ["--protocol", "across", "--runs", "2", "--eval-runs", "2"]
    assert main(arguments(cache, tmp_path, *more, "--seeds", "0", algos=algos, rounds=3)) == 0
    rows = raw(tmp_path)
    learning = {row["policy"]: row["learning_rounds"] for row in rows}
    assert learning == {"reinforce": "6", "random-search": "6", "linear": "0"}
    assert {row["judged_rounds"] for row in rows} == {"6"}
    assert "protocol `across`" in (tmp_path / "results.md").read_text()
    for row in rows:
        steps = [step for step in steps_of(row, tmp_path) if step["phase"] == "evaluate"]
        assert float(row["mean_reward"]) == pytest.approx(np.mean([float(step["reward"]) for step in steps]))
        if row["policy"] == "random-search":  # frozen: one constant action, the same in both runs
            assert len({step["action_blur"] for step in steps}) == 1
        if row["policy"] == "linear":
            assert [step["action_blur"] for step in steps[:3]] == [step["action_blur"] for step in steps[3:]]
            assert steps[0]["action_blur"] < steps[2]["action_blur"]


@pytest.mark.slow
def test_a_policy_of_unknown_class(cache: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(POLICY)
    algos = (f"{file}:Alternating", "constant")
    assert main(arguments(cache, tmp_path / "out", "--seeds", "0", algos=algos, rounds=4)) == 0
    own = raw(tmp_path / "out")[0]
    assert own["policy"] == f"{file}:Alternating"
    (folder,) = (tmp_path / "out" / "runs").glob("*Alternating*")
    steps = RunDirectory(folder / "0").rounds.read()
    assert [float(step["action_noise"]) for step in steps] == [-1.0, 0.5, -1.0, 0.5]


def test_a_failing_run_is_named(cache: str, tmp_path: Path) -> None:
    with pytest.raises(FusionEnvError, match=r"run .*constant.*nosuch"):
        main(arguments(cache, tmp_path, "--data", str(tmp_path / "nosuch"), algos=("constant",)))


@pytest.mark.parametrize(
    ("more", "message"), [(["--teachers", "laplacin"], "laplacian"), (["--algos", "constant", "linaer"], "linear")]
)
def test_unknown_names_are_refused_before_the_first_run(cache: str, tmp_path: Path, more, message) -> None:
    with pytest.raises(FusionEnvError, match=message):
        main(arguments(cache, tmp_path, *more))
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_settings_of_agents_reach_their_runs_and_no_others(cache: str, tmp_path: Path) -> None:
    settings = ["--agent-settings", "constant.action=0.25"]
    command = arguments(cache, tmp_path, "--seeds", "0", algos=("constant", "guidance-only"), rounds=2)
    assert main([*command, *settings]) == 0
    actions = {row["policy"]: {float(step["action_blur"]) for step in steps_of(row, tmp_path)} for row in raw(tmp_path)}
    assert actions["constant"] == {0.25} != actions["guidance-only"]
    assert "`constant` {'action': 0.25}" in (tmp_path / "results.md").read_text()
    for other in ([], ["--agent-settings", "constant.action=0.5"]):
        with pytest.raises(FusionEnvError, match=r"another configuration: agent_settings \(.*0\.25"):
            main([*command, *other])
    assert main([*command, *settings]) == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("constant.acton=0.5", "Did you mean 'action'"),
        ("constant.action=text", "action must be of type"),
        ("constnt.action=0.5", "constant"),
        ("ppo.n_steps=5", "unknown policy with settings in this benchmark 'ppo'"),
        ("action=0.5", r"ALGO\.NAME=VALUE"),
        ("constant.action", "NAME=VALUE"),
        ("guidance-only.acton=0.5", "Did you mean 'action'"),
        ("tests.agents.toy:Follower.scal=1", "Did you mean 'scale'"),
    ],
)
def test_settings_of_agents_are_checked_before_the_first_run(cache: str, tmp_path: Path, setting, message) -> None:
    algos = ("constant", "guidance-only", "tests.agents.toy:Follower")
    with pytest.raises(FusionEnvError, match=message):
        main(arguments(cache, tmp_path, "--agent-settings", setting, algos=algos))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (999, 1000)}, "mix reporting"),
        ({"policies": ("random-search",)}, "across"),
        ({"policies": ("constant", "constant")}, "each once"),
        ({"seeds": ()}, "one or more"),
        ({"data": ("a", "a")}, "each once"),
        ({"runs": 0}, "runs must be at least 1"),
        ({"policies": ("guidance-only-long",)}, "across"),
        ({"seeds": (1000,), "stage0_seeds": (1000,)}, "tuning seeds .* need data_seeds from 1000 on"),
        ({"seeds": (1000,), "data_seeds": (1000,)}, "tuning seeds .* need stage0_seeds from 1000 on"),
        ({"seeds": (0,), "data_seeds": (1000,)}, "data_seeds from 1000 on are for tuning"),
    ],
)
def test_grids_that_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Grid(**{"protocol": "online", "policies": ("constant",), **changes})


def test_policies_that_would_share_a_folder_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / "a" / "own.py", tmp_path / "a_own.py"]
    files[0].parent.mkdir()
    for path in files:
        path.write_text(POLICY)
    grid = Grid("online", tuple(f"{path}:Alternating" for path in files), seeds=(0, 1), preset="tiny")
    with pytest.raises(
        ConfigError, match=r"a/own.py:Alternating .* and .*a_own.py:Alternating .* would share .*give a file another"
    ):
        grid.cells(tmp_path / "out")


def test_tuning_has_other_scenes_and_starts_and_sees_no_report(cache: str, tmp_path: Path) -> None:
    common = ["--preset", "tiny", "--cache-dir", cache, "--rounds", "1", "--batch-size", "1", "--score-crops", "1"]
    main([*common, "--stage0-rounds", "0", "--seeds", "1000", "--agents", "guidance-only", "--out", str(tmp_path)])
    results, (row,) = (tmp_path / "results.md").read_text(), raw(tmp_path)
    assert "not for reporting" in results
    assert (row["stage0_seed"], row["data_seed"]) == ("1000", "1000")
    assert not [name for name in row if "report" in name or name.endswith(("_gap", "_mae"))]
    assert not any(word in results for word in ("report split", "final gap", "MAE"))


def test_starts_take_turns_so_that_all_come_before_one_comes_again(tmp_path: Path) -> None:
    def starts(stage0: int, draws: int) -> list[tuple[int, int]]:
        grid = Grid(
            "online",
            ("constant",),
            seeds=tuple(range(stage0 * draws)),
            preset="tiny",
            stage0_seeds=tuple(range(stage0)),
            data_seeds=tuple(range(draws)),
        )
        cells = grid.cells(tmp_path)
        assert [cell.job.config.env.data_seed for cell in cells] == [cell.data_seed for cell in cells]
        return [(cell.stage0_seed, cell.data_seed) for cell in cells]

    for stage0, draws in ((2, 5), (2, 4), (3, 3), (1, 3), (4, 6)):
        assert len(set(starts(stage0, draws))) == stage0 * draws
    assert starts(3, 3)[:3] == [(0, 0), (1, 1), (2, 2)]


def test_stage0_seeds_that_make_no_difference_are_no_starts(tmp_path: Path) -> None:
    grid = Grid("online", ("constant",), seeds=tuple(range(4)), preset="demo", stage0_seeds=(0, 1), data_seeds=(0, 1))
    assert {(cell.stage0_seed, cell.data_seed) for cell in grid.cells(tmp_path)} == {(0, 0), (0, 1)}


def test_the_long_control_has_the_rounds_of_learning_and_one_student(tmp_path: Path) -> None:
    policies = ("ppo", "guidance-only", "guidance-only-long")
    grid = Grid("across", policies, seeds=(0,), preset="tiny", settings={"rounds": 6}, runs=4, eval_runs=2)
    learner, control, long = (cell.job.config for cell in grid.cells(tmp_path))
    assert (learner.learning_rounds, control.total_rounds, long.total_rounds) == (24, 12, 30)
    assert (long.eval_runs, long.env.rounds, long.env.self_learning) == (1, 30, False)
    assert control.env.replace(rounds=30) == long.env


def test_a_grid_knows_its_task(tmp_path: Path) -> None:
    grid = Grid("online", ("constant", "guidance-only"), preset="tiny", task="few", settings={"train_limit": 6})
    configs = [cell.job.config for cell in grid.cells(tmp_path)]
    assert {(config.task, config.env.scenes, config.env.train_limit) for config in configs} == {("few", 80, 6)}
    assert {config.start for config in configs} == {grid.start}
    assert grid.start == "preset tiny, task few (but train_limit=6 in place of 8)"


def test_the_planner_runs_only_where_it_is_named() -> None:
    for protocol, left_out in (("online", {"planner", "random-search"}), ("across", {"planner"})):
        args = _parser().parse_args(["--out", "x", "--protocol", protocol])
        long = {"guidance-only-long"} if protocol == "across" else set()
        assert set(_grid(args).policies) == set(policies.names()) - left_out | long
    args = _parser().parse_args(["--out", "x", "--agents", "planner"])
    assert _grid(args).policies == ("planner",)


def test_seeds() -> None:
    assert parse_seeds(["3", "5-7"]) == (3, 5, 6, 7)
    with pytest.raises(ConfigError, match="0-9"):
        parse_seeds(["a"])
    with pytest.raises(ConfigError, match="write 2-5"):
        parse_seeds(["0", "5-2"])


def test_numbers_of_runs_are_taken_as_they_are(cache: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="runs must be at least 1"):
        main(arguments(cache, tmp_path, "--runs", "0"))
    with pytest.raises(ConfigError, match="eval_runs=3 needs protocol 'across'"):
        main(arguments(cache, tmp_path, "--eval-runs", "3"))
    with pytest.raises(ConfigError, match="eval_runs must be at least 1"):
        main(arguments(cache, tmp_path, "--protocol", "across", "--eval-runs", "0"))


def test_tasks_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    grid = Grid("online", ("constant",), data=("a/pairs", "b/pairs", "c/other"), seeds=(0,), preset="tiny")
    assert [cell.data for cell in grid.cells(tmp_path)] == ["a/pairs", "b/pairs", "other"]
    grid = Grid("online", ("constant",), teachers=("folder=a", "folder=b", "laplacian"), seeds=(0,), preset="tiny")
    cells = grid.cells(tmp_path)
    assert [cell.teacher for cell in cells] == ["folder=a", "folder=b", "laplacian"]
    assert len({cell.job.run_dir for cell in cells}) == 3


@pytest.mark.slow
def test_several_tasks_have_a_table_each_and_none_together(cache: str, tmp_path: Path) -> None:
    more = ["--teachers", "laplacian", "embedded", "--seeds", "0-2", "--stage0-seeds", "0"]
    assert main(arguments(cache, tmp_path, *more, algos=("constant",), rounds=2)) == 0
    results = (tmp_path / "results.md").read_text()
    assert results.count("| constant |") == 2
    for teacher in ("laplacian", "embedded"):
        section = results.split(f"## Teacher {teacher}, data procedural")[1].split("## ")[0]
        assert f"- teacher: {teacher}" in section
        assert "| constant | 3 |" in section


@pytest.mark.slow
def test_few_starts_and_few_runs_are_said(cache: str, tmp_path: Path) -> None:
    main(arguments(cache, tmp_path, "--seeds", "0", "1", algos=("constant", "random"), rounds=2))
    results = (tmp_path / "results.md").read_text()
    assert "only 2 start(s)" in results
