"""``hierarchical_xlstm``: sLSTM and mLSTM blocks in parallel, averaged after every block."""

from __future__ import annotations

from torch import Tensor

from ecgkit.models.parallel_xlstm import TwoBranchXLSTM


class HierarchicalXLSTM(TwoBranchXLSTM):
    """Like `ParallelXLSTM`, but both branches are averaged after every block and continue from the average.

    The keywords are those of `TwoBranchXLSTM`.
    """

    n_norms = 1

    def fuse(self, tokens: Tensor) -> Tensor:
        """Average the two blocks at each level: ``(records, tokens, width)`` to the same shape."""
        for slstm, mlstm in zip(self.slstm, self.mlstm, strict=True):
            mean = (slstm(tokens) + mlstm(tokens)) / 2
            tokens = tokens + self.branch_dropout(mean - tokens)
        return self.norms[0](tokens)
