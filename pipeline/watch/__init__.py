"""What is new at a partner, onto a topic, each once. `watcher.py` is the loop; README.md says what may not happen where."""
