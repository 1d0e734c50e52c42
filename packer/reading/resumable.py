"""What every loader says of its passes: how long, where it is, and where the next begins."""

from __future__ import annotations

from typing import Any, Mapping

from packer.reading.progress import Progress


class Resumable:
    """A loader with a `progress`: every pass is a new epoch unless set_epoch names it."""

    progress: Progress

    def __len__(self) -> int:
        """Steps of a whole epoch, also where the next pass resumes one (`steps_left`)."""
        return len(self.progress)

    @property
    def steps_left(self) -> int:
        """Steps that the pass under way still gives; without one, those of the next pass."""
        return self.progress.steps_left

    @property
    def graphs_per_step(self) -> float:
        """Real graphs of a step of one rank, in the mean over an epoch: `masked_mean(loss, mask, per=...)`."""
        return self.progress.graphs_per_pack * self.progress.step

    def set_epoch(self, epoch: int) -> None:
        """The next pass is `epoch`; one under way goes on. StateError for what is no epoch."""
        self.progress.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loop that consumes this loader is: plain values; what is read ahead does not count."""
        return self.progress.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next pass gives exactly what was left when `state` was taken; one under way goes on. StateError for what
        is no state, or one of another data set."""
        self.progress.load_state_dict(state)
