"""The loop that takes records from the bus through the hops and commits: `worker.py`."""
