"""Real services under fire: their processes, their work, the faults, and what must be true afterwards."""
