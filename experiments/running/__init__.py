"""One run, from its launch to its end: its directory, its ledger, its signals, its records."""
