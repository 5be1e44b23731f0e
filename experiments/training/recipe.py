"""What decides a training run: the same recipe on the same device gives the same network."""

import math
from dataclasses import dataclass

SCHEDULES = ("cosine", "steps")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Stochastic gradient descent with momentum 0.9, crops and flips (He et al. 2016, section 4.2).

    - `depth`: 6n + 2 layers; `seed`: of the weights, the order of the images, crops and flips;
    - `weight_decay`: l2 / 2 |w|^2 is added to the loss, for all parameters;
    - `schedule`: "cosine", or "steps" of 1 / 10 at one half and three quarters; both start with a
      linear warm-up over the first epoch;
    - `images`: so many of the train images, the first; all if 0.

    Raises ValueError for a number out of range or an unknown schedule.
    """

    depth: int = 20
    seed: int = 0
    weight_decay: float = 1e-4
    epochs: int = 100
    learning_rate: float = 0.1
    batch_size: int = 128
    schedule: str = "cosine"
    images: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            choices = ", ".join(SCHEDULES)
            raise ValueError(f"unknown schedule {self.schedule!r}; choose from {choices}")
        least = {"epochs": 1, "batch_size": 2, "images": 0, "weight_decay": 0, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} must be at least {bound}, not {getattr(self, name)}")
        if self.seed >= 2**64:
            raise ValueError(f"seed must be below 2**64, not {self.seed}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0, not {self.learning_rate}")
        if not math.isfinite(self.weight_decay):
            raise ValueError(f"weight_decay must be finite, not {self.weight_decay}")

    @property
    def name(self) -> str:
        """What tells runs apart: `resnet20-seed0-decay0.0001-epochs100`."""
        parts = [f"resnet{self.depth}", f"seed{self.seed}", f"decay{self.weight_decay:g}"]
        parts += [f"epochs{self.epochs}"] + ([f"images{self.images}"] if self.images else [])
        return "-".join(parts)

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of a step, counted from 0.

        eta_t = eta min(1, (t + 1) / t_1) (1 + cos(pi t / T)) / 2 for "cosine", where t_1 is one
        epoch and T all of them
        """
        done = step / (steps_per_epoch * self.epochs)
        warm = min(1.0, (step + 1) / steps_per_epoch)
        if self.schedule == "cosine":
            return self.learning_rate * warm * (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate * warm * 0.1 ** ((done >= 0.5) + (done >= 0.75))
