"""A notebook as a step: the strict runner, the chain, sweeps, searches and reproductions."""
