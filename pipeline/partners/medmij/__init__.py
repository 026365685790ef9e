"""MedMij eAfspraak: appointments for a patient's own record (contracts/medmij.md)."""
