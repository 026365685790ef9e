"""What was begun, what became of it, who is known where: `port.py` says what a ledger does, `sql.py` does it."""
