"""Trial runs on one machine: real processes, a partner stand-in, figures and invariants."""
