"""Weights & Biases as a mirror of the ledger, in a process of its own: no training imports wandb or waits for it."""
