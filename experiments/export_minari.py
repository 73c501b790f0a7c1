"""Turn recorded runs into a Minari data set, for offline RL and imitation.

python experiments/export_minari.py runs/NAME --dataset fusion/mine-v0
# Several runs of one task.
python experiments/export_minari.py runs/ONE runs/OTHER --dataset fusion/mine-v0

Every run of every directory becomes an episode: observations, actions, rewards,
ends and infos, as the agent met them. Configurations and versions are in the
metadata. minari.load_dataset("fusion/mine-v0") reads it; Minari keeps it in
MINARI_DATASETS_PATH, or ~/.minari/datasets.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from experiments.command_line import exit_on_error, make_parser, progress_bar
from experiments.running.directory import RunDirectory
from experiments.running.episodes import Episode, recorded_episodes
from experiments.running.recorded import Recorded, open_recorded
from fusion_env.config import MACHINE_ONLY, DistillConfig
from fusion_env.data import Progress, no_progress
from fusion_env.env import FusionDistillEnv
from fusion_env.errors import ConfigError, MissingRequirementsError
from fusion_env.identity import differences
from fusion_env.version import __version__
from student.console import counted

if TYPE_CHECKING:
    from minari import MinariDataset

__all__ = ["command", "export_minari", "main"]

_ID = "fusion_env/FusionDistill-v0"


def export_minari(
    run_dirs: Sequence[Path], dataset_id: str, *, progress: Progress = no_progress, **about: Any
) -> "MinariDataset":
    """Write a Minari data set; nothing is trained, but data and networks of the runs must be there.

    Args:
        run_dirs: Directories of runs, finished or not, all of one task; they are only read.
        dataset_id: Name of the data set, such as ``"fusion/mine-v0"``.
        progress: Progress display, over the set-up and the runs.
        **about: Other arguments of `minari.create_dataset_from_buffers`, such as `author`.

    Returns:
        The data set as Minari loads it. Its metadata have ``runs``: for each directory its ``name``, ``config`` (that
        of config.json), ``fingerprints`` of data and networks, and ``versions`` of packages (None where the run is
        unfinished). Those of an episode have ``name``, ``agent``, ``phase`` and ``run``.

    Raises:
        MissingRequirementsError: Minari is not installed.
        ConfigError: A directory holds no run, or a damaged one; the runs are of different tasks, or of data and
            networks with another content than those here; there is a data set of this name, or it is no name for one.
        FusionEnvError: Data or weights of a run are missing.
    """
    minari = _import_minari()
    _check_name(minari, dataset_id)
    _check_same_task(run_dirs)
    buffers, origins, runs = [], [], []
    for run_dir in run_dirs:
        recorded = open_recorded(run_dir, progress)
        runs.append(_about(recorded))
        for episode in recorded_episodes(recorded, progress):
            buffers.append(minari.data_collector.EpisodeBuffer(**_steps(episode)))
            origin = {"name": run_dir.resolve().name, "agent": recorded.config.agent}
            origins.append({**origin, "phase": episode.phase, "run": episode.run})
    env = FusionDistillEnv.from_task(recorded.task)
    env.spec = _spec(recorded.config.env)
    dataset = minari.create_dataset_from_buffers(
        dataset_id,
        buffers,
        env=env,
        eval_env=env,
        algorithm_name=", ".join(dict.fromkeys(run["config"]["agent"] for run in runs)),
        requirements=[f"fusion-env=={__version__}"],
        **{"description": f"Distillation runs: {', '.join(run['name'] for run in runs)}", **about},
    )
    dataset.storage.update_metadata({"runs": runs})
    dataset.storage.update_episode_metadata(origins)
    return minari.load_dataset(dataset_id)


def _import_minari() -> Any:
    try:
        import minari.data_collector
        import minari.dataset.minari_dataset
    except ImportError as error:
        raise MissingRequirementsError(
            f'Minari is missing ({error}); in the folder of fusion-env: pip install -e ".[clients]"'
        ) from error
    return minari


def _check_name(minari: Any, dataset_id: str) -> None:
    """Check a name before the work; Minari would leave an empty folder of a wrong one."""
    try:
        minari.dataset.minari_dataset.parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:  # the latter where the version is missing
        raise ConfigError(f"{dataset_id!r} is no name for a data set, such as fusion/mine-v0: {error}") from error
    if dataset_id in minari.list_local_datasets():
        raise ConfigError(
            f"there is a data set {dataset_id!r} already: choose another name or version, or delete it with "
            f"minari delete {dataset_id}"
        )


def _check_same_task(run_dirs: Sequence[Path]) -> None:
    first, *others = [RunDirectory(path) for path in run_dirs]
    task = first.read_config().env, first.recorded_fingerprints()
    for other in others:
        changed = differences(task, (other.read_config().env, other.recorded_fingerprints()), ignored=MACHINE_ONLY)
        if changed:
            raise ConfigError(
                f"{other.path} is a run of another task than {first.path}: {changed}. Export them to data sets of "
                "their own"
            )


def _about(recorded: Recorded) -> dict[str, Any]:
    summary = recorded.directory.summary.read()
    return {
        "name": recorded.directory.path.resolve().name,
        "config": recorded.config.to_dict(),
        "fingerprints": recorded.task.fingerprints,
        "versions": summary and summary["versions"],
    }


def _steps(episode: Episode) -> dict[str, Any]:
    """Return an episode as Minari has it: only the last step can end one."""
    ongoing = [False] * (len(episode.rewards) - 1)
    return {
        "seed": episode.seed,
        "observations": episode.observations,
        "actions": episode.actions,
        "rewards": episode.rewards,
        "terminations": [*ongoing, episode.terminated],
        "truncations": [*ongoing, episode.truncated],
        "infos": episode.infos,
    }


def _spec(config: DistillConfig) -> EnvSpec:
    """Tell gymnasium how to make the environment of a task; every setting but the machine's is named."""
    settings = {name: value for name, value in config.to_dict().items() if name not in MACHINE_ONLY}
    return dataclasses.replace(gymnasium.spec(_ID), kwargs=settings)


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; None takes the process's.

    Returns:
        Exit status 0.
    """
    parser = make_parser(__doc__)
    parser.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN_DIR", help="directory of a run")
    parser.add_argument("--dataset", required=True, metavar="ID", help="name of the data set, such as fusion/mine-v0")
    for option, text in (
        ("--author", "who made it"),
        ("--author-email", "whom to ask"),
        ("--code-permalink", "where the code is"),
        ("--description", "what it is (default: names of the runs)"),
    ):
        parser.add_argument(option, metavar="TEXT", help=f"{text}, for the metadata")
    args = vars(parser.parse_args(arguments))
    run_dirs, dataset_id = args.pop("run_dirs"), args.pop("dataset")
    given = {name: text for name, text in args.items() if text is not None}
    dataset = export_minari(run_dirs, dataset_id, progress=progress_bar, **given)
    size = f"{counted(dataset.total_episodes, 'episode')}, {counted(dataset.total_steps, 'step')}"
    print(f"{size}, in {dataset.spec.data_path}")
    rounds = dataset.env_spec.kwargs["rounds"]
    if cut_off := sum(len(episode) < rounds and bool(episode.truncations[-1]) for episode in dataset):
        print(f"{cut_off} of the runs were cut off before their {rounds} rounds: they end truncated")
    return 0


def command() -> None:
    """Run the command as a program."""
    exit_on_error(main)


if __name__ == "__main__":
    command()
