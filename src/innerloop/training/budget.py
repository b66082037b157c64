"""A wall-clock budget for a whole training run: how far the run is, when it has to end, and what is due meanwhile."""

from __future__ import annotations

# So often in a budget, where no number of steps was asked for.
_TIMES = {"log_every": 100, "validate_every": 20, "checkpoint_every": 20}
# Trained for so many times as long as a validation takes, before the next: validating takes a tenth of the time at most.
_TRAINED_BETWEEN = 9.0


class Budget:
    """Seconds for all sittings of a run together; what its last validation and checkpoint take is kept back.

    Attributes:
        seconds: of the whole.
        step: what an outer step takes, as last measured; 0 before.
        validation: what a validation takes; 0 where there is none.
        checkpoint: what writing one takes.
    """

    step: float
    validation: float
    checkpoint: float

    def __init__(self, seconds: float, spent: float) -> None:
        self.seconds = seconds
        self.step = self.validation = self.checkpoint = 0.0
        self._last = dict.fromkeys(_TIMES, spent)

    @property
    def measured(self) -> tuple[float, float, float]:
        """What this process has measured; those of process 0 count for all."""
        return self.step, self.validation, self.checkpoint

    @measured.setter
    def measured(self, found: tuple[float, float, float]) -> None:
        self.step, self.validation, self.checkpoint = found

    @property
    def for_steps(self) -> float:
        """The seconds in which all steps have to be done; half of the budget at least."""
        return max(self.seconds - self.validation - self.checkpoint, self.seconds / 2)

    def took(self, seconds: float, steps: int) -> None:
        """Note what these steps took; one slow one does not count for all."""
        each = seconds / steps
        self.step = (self.step + each) / 2 if self.step else each

    def share(self, spent: float, ahead: int = 0) -> float:
        """How far the run is, from 0 to 1, after ``spent`` seconds and so many more steps."""
        return min(1.0, (spent + ahead * self.step) / self.for_steps)

    def over(self, spent: float) -> bool:
        """Whether there is no room for another step."""
        return spent + self.step > self.for_steps

    def due(self, name: str, spent: float) -> bool:
        """Whether ``log_every``, ``validate_every`` or ``checkpoint_every`` has come round; it is then taken as done."""
        apart = self.seconds / _TIMES[name]
        if name == "validate_every":
            apart = max(apart, _TRAINED_BETWEEN * self.validation)
        if spent - self._last[name] < apart:
            return False
        self._last[name] = spent
        return True
