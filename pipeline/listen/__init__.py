"""MLLP in: a message is acknowledged only when the bus has it durably."""
