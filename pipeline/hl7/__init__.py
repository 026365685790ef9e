"""Reading and writing HL7 v2, no I/O: ER7, character sets, timestamps, the typed event, acknowledgements, MLLP frames, batches."""
