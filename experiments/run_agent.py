"""Distil a fusion student under an agent of your choice.

# It learns over four runs in a row.
python experiments/run_agent.py --algo sac --runs 4
# Four students are trained beside each other, two at a time on two cores.
python experiments/run_agent.py --algo ppo --runs 8 --num-envs 4 --threads 1
# It learns, is frozen, and is judged in 5 new runs.
python experiments/run_agent.py --algo ppo --protocol across --runs 20
# A trained agent on something else.
python experiments/run_agent.py --eval-policy runs/NAME/agent.zip --data DIR
# Go on after Ctrl-C.
python experiments/run_agent.py --resume runs/NAME
"""

import argparse
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.command_line import (
    add_fields,
    add_preset,
    add_settings,
    as_started,
    exit_on_error,
    given_settings,
    make_parser,
    named_values,
    progress_bar,
    start_label,
)
from experiments.running import policies
from experiments.running.config import RunConfig
from experiments.running.directory import RunDirectory
from experiments.running.interruption import Interrupted, interrupt_at_once
from experiments.running.run import run
from experiments.running.summary_table import summary_table
from fusion_env.config import MACHINE_ONLY, DistillConfig
from fusion_env.errors import ConfigError
from fusion_env.task import build_task
from fusion_env.workers import one_thread_each

__all__ = ["command", "main", "run_command"]

_TASK = ("data", "teacher", "teacher_weights", "rounds")


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status: 0 finished, 130 interrupted and resumable.
    """
    known = ", ".join(policies.names())
    own = "or a policy of your own as module:Factory or file.py:Class"
    return run_command(arguments, __doc__, help=f"{known}; {own} (default: reinforce)")


def run_command(arguments: Sequence[str] | None, description: str, **algo: Any) -> int:
    """Run one agent as the options say.

    Args:
        arguments: Command line; None takes the process's.
        description: Of the command.
        **algo: How `argparse` is to add the option `--algo`.

    Returns:
        Exit status.
    """
    # Whatever is not given is absent, so that `--resume` notices what is.
    parser = make_parser(description, argument_default=argparse.SUPPRESS)
    _add_options(parser, algo)
    args = parser.parse_args(arguments)
    config, run_dir = _resumed(args) if "resume" in args else _new(args)
    directory = RunDirectory(run_dir)
    try:
        with interrupt_at_once():
            _print_start(config, build_task(config.env, progress_bar).describe(), run_dir)
            summary = run(config, run_dir, show=True, progress=progress_bar)
    except Interrupted as stop:
        resume = f"continue with: {as_started('python experiments/run_agent.py')} --resume {shlex.quote(str(run_dir))}"
        print(f"{stop}; {resume if directory.is_begun else 'nothing was written'}")
        return 130
    print(f"\n{summary_table(summary)}\n\nWritten to {run_dir}: {', '.join(directory.results())}")
    return 0


def _add_options(parser: argparse.ArgumentParser, algo: dict[str, Any]) -> None:
    usual = f"Default: seed 0, 1 run a student online; across {policies.EVAL_RUNS} runs of the frozen agent."
    what = parser.add_argument_group("what to run", usual)
    add_preset(what, "demo")
    add_fields(what, DistillConfig, _TASK)
    add_fields(what, RunConfig, ("protocol", "runs", "num_envs", "eval_runs", "seed"))
    agent = parser.add_argument_group("which agent")
    agent.add_argument("--algo", **algo)
    agent.add_argument("--agent-settings", nargs="+", metavar="NAME=VALUE", help="its settings, such as horizon=3")
    agent.add_argument("--eval-policy", type=Path, metavar="FILE", help="judge this saved agent as it is (across)")
    add_fields(agent, RunConfig, ("normalize",))
    where = parser.add_argument_group("where results go")
    text = "directory for the results (default: runs/NAME of preset, task and time, in the working directory)"
    where.add_argument("--out", type=Path, metavar="DIR", help=text)
    where.add_argument("--resume", type=Path, metavar="DIR", help="continue the run in DIR; takes no other option")
    add_fields(where, RunConfig, ("checkpoint_every", "details"))
    add_fields(parser.add_argument_group("machine"), DistillConfig, MACHINE_ONLY)
    add_settings(parser, "demo", added=(*_TASK, *MACHINE_ONLY))


def _new(args: argparse.Namespace) -> tuple[RunConfig, Path]:
    fields, name = given_settings(args, RunConfig), getattr(args, "algo", None)
    preset_name, agent_settings = fields.pop("preset", "demo"), named_values(fields.pop("agent_settings", []))
    if "eval_policy" in args:
        if fields.get("runs") or agent_settings or fields.get("protocol") == "online":
            raise ConfigError(
                "--eval-policy judges an agent as it is: leave out --runs, --agent-settings and --protocol"
            )
        name = name or _name_of(args.eval_policy)
        fields |= {"protocol": "across", "runs": 0, "policy": str(args.eval_policy.resolve())}
    if name is None:
        name = "reinforce-paper" if preset_name == "paper" else "reinforce"
    config = policies.run_config(
        name,
        preset_name,
        one_thread_each(fields.get("num_envs", 1), given_settings(args)),
        learning_runs=fields.get("num_envs", 1),
        agent_settings=agent_settings,
        **fields,
    )
    label = Path(name.split(":")[0]).stem
    start, now = start_label(preset_name, config.task), time.strftime("%Y%m%d-%H%M%S")
    title = f"{label}-{start}-{config.protocol}-seed{config.seed}-{now}"
    return config, getattr(args, "out", Path("runs") / title)


def _name_of(policy: Path) -> str:
    """Find out which algorithm wrote a saved agent, from the run's directory that it lies in."""
    try:
        return RunDirectory(policy.parent).read_config().agent
    except ConfigError as error:
        raise ConfigError(f"{policy} does not lie in the directory of a run: say with --algo what it is") from error


def _resumed(args: argparse.Namespace) -> tuple[RunConfig, Path]:
    directory = RunDirectory(args.resume)
    if len(vars(args)) > 1:
        raise ConfigError(f"--resume takes its settings from {directory.config_file}: leave out the other options")
    return directory.read_config(), args.resume


def _print_start(config: RunConfig, used: dict[str, str], run_dir: Path) -> None:
    print(f"{config.start}, agent {config.agent}, protocol {config.protocol}, seed {config.seed}")
    judged = f", then {config.eval_runs} run(s) of the frozen agent" if config.eval_runs else ""
    lines = used | ({"policy": config.policy} if config.policy else {})
    beside = f", {config.num_envs} beside each other" if config.num_envs > 1 else ""
    lines |= {"rounds": f"{config.runs} run(s) of {config.env.rounds}{beside}{judged}", "out": str(run_dir.absolute())}
    for name, value in lines.items():
        print(f"  {name:<11}{value}", flush=True)


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
