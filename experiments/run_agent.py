"""Distil a fusion student under an agent of your choice.

python experiments/run_agent.py --algo sac --runs 4                     # learns over four runs in a row
python experiments/run_agent.py --algo ppo --protocol across --runs 20  # learns, is frozen, is judged in 5 new runs
python experiments/run_agent.py --eval-policy runs/NAME/agent.zip --data DIR   # a trained agent on something else
python experiments/run_agent.py --resume runs/NAME                      # go on after Ctrl-C
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import agents
from experiments.command_line import add_settings, exit_on_error, given_settings, progress_bar
from experiments.running.config import FILE as CONFIG_FILE
from experiments.running.config import PROTOCOLS, RunConfig, read_config
from experiments.running.interruption import Interrupted, interrupt_at_once
from experiments.running.policies import GUIDANCE_ONLY, policy_setup
from experiments.running.run import run, summary_table
from fusion_env.config import PRESETS, preset
from fusion_env.errors import ConfigError
from fusion_env.task import build_task

__all__ = ["main", "run_command"]

_EVAL_RUNS = 5
_EXPONENTIAL = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status: 0 finished, 130 interrupted and resumable.
    """
    return run_command(arguments, _parser())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ", ".join((*agents.names(), GUIDANCE_ONLY))
    parser.add_argument(
        "--algo", help=f"{known}; or a policy of your own as module:Factory or file.py:Class (default: reinforce)"
    )
    return parser


def run_command(arguments: Sequence[str] | None, parser: argparse.ArgumentParser) -> int:
    """Run one agent as the options say.

    Args:
        arguments: Command line; None takes the process's.
        parser: Has `--algo`; gets all other options.

    Returns:
        Exit status.
    """
    _add_options(parser)
    args = parser.parse_args(arguments)
    config, run_dir = _resumed(args) if args.resume else _new(args)
    try:
        with interrupt_at_once():
            task = build_task(config.env, progress_bar)
            _print_start(config, task.describe(), run_dir)
            summary = run(config, run_dir, show=True, progress=progress_bar)
    except Interrupted as stop:
        begun = (run_dir / CONFIG_FILE).exists()
        then = f"continue with: python experiments/run_agent.py --resume {run_dir}" if begun else "nothing was written"
        print(f"{stop}; {then}")
        return 130
    print(f"\n{summary_table(summary)}\n\nWritten to {run_dir}: {_listing(run_dir)}")
    return 0


def _add_options(parser: argparse.ArgumentParser) -> None:
    # The options that have a default get it in `_new`, so that `--resume` notices them.
    parser.add_argument("--preset", choices=PRESETS.names(), help="starting point of all settings (default: demo)")
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="online (default): the student of the (last) run in which the agent learns is scored; across: the agent "
        "is frozen after its runs, and the students of new runs are scored",
    )
    parser.add_argument("--runs", type=int, help="distillation runs in a row in which the agent learns (default: 1)")
    parser.add_argument("--eval-runs", type=int, help=f"runs of the frozen agent (across only; default: {_EVAL_RUNS})")
    parser.add_argument("--eval-policy", metavar="FILE", help="judge this saved agent as it is (across, no learning)")
    parser.add_argument(
        "--agent-settings", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the agent, such as horizon=3"
    )
    parser.add_argument("--seed", type=int, help="seed of agent and environment (default: 0)")
    parser.add_argument(
        "--normalize",
        action="store_true",
        help="let the agent learn on observations and rewards of one scale (VecNormalize); records stay as they are",
    )
    parser.add_argument(
        "--checkpoint-every", type=int, metavar="ROUNDS", help="rounds between checkpoints (default: 10)"
    )
    parser.add_argument("--out", type=Path, help="directory for the results (default: runs/NAME of preset and time)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="continue the run in DIR; takes no other option")
    add_settings(parser)


def _new(args: argparse.Namespace) -> tuple[RunConfig, Path]:
    name, policy, preset_name, seed = args.algo, None, args.preset or "demo", args.seed or 0
    protocol, runs, eval_runs = args.protocol or PROTOCOLS[0], args.runs, args.eval_runs
    if args.eval_policy:
        if args.runs or args.agent_settings or args.protocol == "online":
            raise ConfigError(
                "--eval-policy judges an agent as it is: leave out --runs, --agent-settings and --protocol"
            )
        name, policy = name or _name_of(Path(args.eval_policy)), str(Path(args.eval_policy).resolve())
        protocol, runs = "across", 0
    if name is None:
        name = "reinforce-paper" if preset_name == "paper" else "reinforce"
    env = preset(preset_name, **given_settings(args))
    setup = policy_setup(name, env)
    if protocol == "across":
        eval_runs = _EVAL_RUNS if eval_runs is None else eval_runs
        runs = 0 if not setup.learns and runs is None else runs
    config = RunConfig(
        env=env.replace(**setup.env),
        preset=preset_name,
        agent=setup.agent,
        agent_settings={} if policy else setup.settings | _agent_settings(args.agent_settings),
        protocol=protocol,
        runs=1 if runs is None else runs,
        eval_runs=eval_runs or 0,
        policy=policy,
        seed=seed,
        normalize=args.normalize,
        checkpoint_every=10 if args.checkpoint_every is None else args.checkpoint_every,
    )
    label = Path(name.split(":")[0]).stem
    title = f"{label}-{preset_name}-{protocol}-seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    return config, args.out or Path("runs") / title


def _agent_settings(pairs: Sequence[str]) -> dict[str, Any]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--agent-settings takes NAME=VALUE. Got {pair!r}")
        try:
            # YAML takes 1e6 for a text, because it has no point.
            settings[name] = float(value) if _EXPONENTIAL.fullmatch(value) else yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--agent-settings: {pair!r} has a value that is not YAML") from error
    return settings


def _name_of(policy: Path) -> str:
    """Find out which algorithm wrote a saved agent, from the run's directory that it lies in."""
    try:
        return read_config(policy.parent).agent
    except ConfigError as error:
        raise ConfigError(f"{policy} does not lie in the directory of a run: say with --algo what it is") from error


def _resumed(args: argparse.Namespace) -> tuple[RunConfig, Path]:
    given = [value for name, value in vars(args).items() if name not in ("resume", "agent_settings", "normalize")]
    if given_settings(args) or args.agent_settings or args.normalize or any(value is not None for value in given):
        raise ConfigError(
            f"--resume takes its settings from {args.resume / 'config.json'}: leave out the other options"
        )
    return read_config(args.resume), args.resume


def _print_start(config: RunConfig, used: dict[str, str], run_dir: Path) -> None:
    print(f"preset {config.preset}, agent {config.agent}, protocol {config.protocol}, seed {config.seed}")
    for name, value in used.items():
        print(f"  {name:<11}{value}")
    if config.policy:
        print(f"  {'policy':<11}{config.policy}")
    judged = f", then {config.eval_runs} run(s) of the frozen agent" if config.eval_runs else ""
    print(f"  {'rounds':<11}{config.runs} run(s) of {config.env.rounds}{judged}")
    print(f"  {'out':<11}{run_dir}", flush=True)


def _listing(run_dir: Path) -> str:
    return ", ".join(sorted(path.name for path in run_dir.iterdir() if not path.name.startswith(".")))


if __name__ == "__main__":
    exit_on_error(lambda: main(sys.argv[1:]))
