"""Sweeps: one experiment file -> cells -> a ledger with one result per cell."""
