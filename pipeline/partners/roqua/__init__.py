"""RoQua: HoNOS+ documents, responses by its REST API, and what is read there (contracts/roqua.md)."""
