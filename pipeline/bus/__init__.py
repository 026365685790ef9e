"""Topics: `port.py` says what a bus does, `embedded.py` (SQLite) and `kafka.py` (kafka-python) do it."""
