"""HOST:PORT, as settings and arguments give it. No socket is opened here."""

from typing import NamedTuple

from pipeline.errors import SettingsError

_MOST_PORT = 65535


class Address(NamedTuple):
    """A host (name, IPv4 or IPv6 without brackets) and a port; what socket functions take."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, where: str) -> Address:
    """`127.0.0.1:2575`, `his.example:2575`, `[::1]:2575`, `:2575` (every interface). SettingsError naming `where`."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise SettingsError("an IPv6 address stands in brackets, as [::1]:2575", where=where)
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _MOST_PORT:
        raise SettingsError("HOST:PORT, as 127.0.0.1:2575", where=where)
    return Address(host, int(port))
