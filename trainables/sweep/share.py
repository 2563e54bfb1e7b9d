"""Limits a process to its trial's share of the machine."""

from dataclasses import dataclass

import torch

from trainables.errors import UserError

# What a process takes of a GPU besides its tensors: the CUDA context and the libraries' own memory.
# It does not count in torch's limit, so it comes off every share.
CONTEXT_BYTES = 512 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Holds how much of the machine one trial may use.

    cpus: threads, at least one. gpus: below 1, that part of one GPU's memory; 0 trains on the CPU.
    remedy: how the user gives a trial more of a GPU, for messages.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    remedy: str = "raise --gpus-per-trial"

    def prepare(self) -> str:
        """Limit this process and return its device, "cpu" or "cuda".

        Raises `UserError` for a share that CUDA itself uses up.
        """
        torch.set_num_threads(max(1, int(self.cpus)))
        if not self.gpus or not torch.cuda.is_available():
            return "cpu"
        if self.gpus < 1:
            # Ray does not enforce fractions of a GPU; with this limit a greedy trial fails alone.
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(self.memory_fraction(total))
        return "cuda"

    def memory_fraction(self, total_bytes: int) -> float:
        """Return the part of a GPU's `total_bytes` that the trial's tensors may take.

        All shares of a GPU and what CUDA takes in each of their processes fit into it together.
        Raises `UserError` where nothing is left.
        """
        left = self.gpus - CONTEXT_BYTES / total_bytes
        if left <= 0:
            raise UserError(
                f"a trial's share of a GPU must be above {CONTEXT_BYTES / total_bytes:.2g}, which "
                f"CUDA takes for itself in every process, got {self.gpus:g} of "
                f"{total_bytes / 2**30:.0f} GiB; {self.remedy}"
            )
        return left

    def explain(self) -> str:
        """Return what to add to the message of a trial that ran out of memory, or ''."""
        if not 0 < self.gpus < 1:
            return ""
        return f"; this trial may take {self.gpus:g} of a GPU's memory: {self.remedy}"
