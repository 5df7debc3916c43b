"""Analysis: ledger -> one tidy frame -> tables, curves, report. Imports no torch."""
