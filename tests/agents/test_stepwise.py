"""Learning step by step: interruptions, and what callbacks, loggers and wrappers of Stable-Baselines3 see of it."""

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize

from agents import Reinforce, gradient_updates, make
from tests.agents.toy import Target, vector_env

pytestmark = pytest.mark.filterwarnings("ignore:.*expect no learning")


class Broken(Target):
    """Return a non-finite reward or observation at step 4."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, reward, terminated, truncated, info = super().step(action)
        if self.steps == 4:
            obs, reward = (obs, float("nan")) if self.what == "reward" else (obs * np.inf, reward)
        return obs, reward, terminated, truncated, info


def parameters(agent: Reinforce) -> np.ndarray:
    """All parameters in one vector."""
    return agent.policy.parameters_to_vector()


class TestInterruption:
    @pytest.mark.parametrize("what", ["reward", "observation"])
    def test_non_finite_values_are_named_before_any_update(self, what):
        agent = make("reinforce", Broken(what), seed=0, horizon=1)
        agent.learn(3)
        before = parameters(agent)
        with pytest.raises(ValueError, match=f"non-finite {what} at step 4"):
            agent.learn(5, reset_num_timesteps=False)
        np.testing.assert_array_equal(parameters(agent), before)

    @pytest.mark.parametrize("moment", ["on_step", "on_rollout_start", "on_rollout_end"])
    def test_a_keyboard_interrupt_loses_nothing(self, moment):
        class Interrupt(BaseCallback):
            def _on_step(self) -> bool:
                return self._act("on_step")

            def _on_rollout_start(self) -> None:
                self._act("on_rollout_start")

            def _on_rollout_end(self) -> None:
                self._act("on_rollout_end")

            def _act(self, now: str) -> bool:
                if now == moment and self.model.num_timesteps == 8:
                    raise KeyboardInterrupt
                return True

        whole = make("reinforce", Target(), seed=0).learn(20)
        agent = make("reinforce", Target(), seed=0)
        with pytest.raises(KeyboardInterrupt):
            agent.learn(20, callback=Interrupt())
        agent.learn(12, reset_num_timesteps=False)
        np.testing.assert_array_equal(parameters(whole), parameters(agent))

    def test_a_callback_can_stop(self):
        agent = make("reinforce", Target(), seed=0).learn(20, callback=lambda local, _: local["self"].num_timesteps < 7)
        assert agent.num_timesteps == 7
        assert gradient_updates(agent) == 6


class TestStableBaselines:
    def test_log_keys(self, tmp_path):
        agent = make("reinforce", vector_env(2), seed=0)
        agent.set_logger(configure(str(tmp_path), ["csv"]))
        agent.learn(48, log_interval=6)
        agent.logger.close()
        lines = (tmp_path / "progress.csv").read_text().splitlines()
        row = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
        assert len(lines) == 1 + 4
        assert (row["time/iterations"], row["time/total_timesteps"], row["train/n_updates"]) == ("24", "48", "24")
        assert float(row["rollout/ep_len_mean"]) == 6
        keys = {"rollout/ep_rew_mean", "time/fps", "train/learning_rate", "train/policy_gradient_loss", "train/std"}
        assert keys | {"train/entropy_loss", "train/loss", "train/grad_norm"} <= set(row)

    def test_callbacks_see_every_step(self, tmp_path):
        class Count(BaseCallback):
            calls: dict[str, int]

            def _init_callback(self) -> None:
                self.calls = dict.fromkeys(("start", "step", "end", "training"), 0)

            def _on_rollout_start(self) -> None:
                self.calls["start"] += 1

            def _on_step(self) -> bool:
                self.calls["step"] += 1
                assert {"rewards", "infos", "dones", "actions", "new_obs"} <= set(self.locals)
                return True

            def _on_rollout_end(self) -> None:
                self.calls["end"] += 1

            def _on_training_end(self) -> None:
                self.calls["training"] += 1

        count, checkpoint = Count(), CheckpointCallback(5, str(tmp_path))
        evaluation = EvalCallback(vector_env(1), eval_freq=6, n_eval_episodes=1, log_path=str(tmp_path), verbose=0)
        make("reinforce", Monitor(Target()), seed=0).learn(12, callback=[count, checkpoint, evaluation])
        assert count.calls == {"start": 12, "step": 12, "end": 12, "training": 1}
        assert {path.name for path in tmp_path.glob("*.zip")} == {"rl_model_5_steps.zip", "rl_model_10_steps.zip"}
        assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [6, 12]

    def test_normalised_environments(self):
        agent = make("reinforce", VecNormalize(vector_env(2)), seed=0).learn(24)
        assert agent.get_vec_normalize_env().obs_rms.count > 24
        assert np.isfinite(parameters(agent)).all()

    def test_progress_bar(self):
        pytest.importorskip("tqdm")
        pytest.importorskip("rich")
        assert make("reinforce", Target(), seed=0).learn(6, progress_bar=True).num_timesteps == 6

    def test_learning_rate_schedule(self):
        agent = Reinforce("MlpPolicy", Target(), learning_rate=lambda remaining: 0.1 * remaining, seed=0).learn(12)
        assert agent.policy.optimizer.param_groups[0]["lr"] == 0
