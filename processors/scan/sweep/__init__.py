"""Which ports answer: SYN and connect sweeps, their ledger, and what they may have missed."""
