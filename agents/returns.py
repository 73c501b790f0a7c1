"""Windows of rewards, and what makes advantages of their sums."""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["ReturnStatistics", "Window"]


@dataclass
class Window:
    """An action that waits for its return: the rewards r_t .. r_{t+H-1} that follow it.

    Args:
        obs: Observation s_t, as the policy saw it.
        action: Unclipped sample a_t [A] in the policy's unit box.
        rewards: Rewards so far, the action's own first.
        closed: The episode ended, no further reward will come.
    """

    obs: np.ndarray
    action: np.ndarray
    rewards: list[float] = field(default_factory=list)
    closed: bool = False

    def is_ready(self, horizon: int) -> bool:
        """Tell whether the return is known."""
        return self.closed or len(self.rewards) >= horizon


@dataclass
class ReturnStatistics:
    """Turn returns into advantages by running averages: an optional baseline and an optional scale.

    Both are exponential averages with bias correction. The baseline is the mean *reward*, multiplied by the number of
    rewards in a window, because windows that the end of an episode cuts hold fewer. A return never enters the baseline
    that it is compared with; it does enter its own scale, which bounds the advantage by about 1/sqrt(1 - decay).

    Args:
        baseline: Subtract the running mean.
        normalize: Divide by the running root mean square.
        decay: Share of the past that each update keeps, in [0, 1).
    """

    baseline: bool = False
    normalize: bool = False
    decay: float = 0.9
    weight: float = 0.0
    mean_reward: float = 0.0
    mean_square: float = 0.0

    def advantages(self, returns: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Compute the advantages [B] of returns [B] that are sums of `lengths` [B] rewards, and update the averages."""
        past, share = self.decay * self.weight, 1 - self.decay
        reward = float(np.mean(returns / lengths))
        advantages = returns
        if self.baseline:
            # The first batch has no past to be compared with but itself.
            advantages = returns - lengths * (self.mean_reward if self.weight else reward)
        self.weight = past + share
        keep, take = past / self.weight, share / self.weight
        self.mean_reward = keep * self.mean_reward + take * reward
        self.mean_square = keep * self.mean_square + take * float(np.mean(advantages**2))
        if self.normalize:
            # Far above rounding noise, so that a constant reward has no advantage rather than an amplified one.
            noise_floor = 1e-8 * (1 + float(np.abs(returns).max()))
            advantages = advantages / (np.sqrt(self.mean_square) + noise_floor)
        return advantages
