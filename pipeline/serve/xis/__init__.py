"""The XIS role of MedMij eAfspraak (STU3): a patient reads his own appointments, and nobody else's. It writes to no store and asks no partner."""
