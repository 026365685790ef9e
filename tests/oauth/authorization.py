"""A small authorization server with the API that it protects, over real TLS, which does what a test says. It shares no code with what it judges:
signatures and challenges are checked here with the bare cryptography library.
"""

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from pipeline.model import Intent, Request, Timeouts
from pipeline.sandbox.certificates import Files
from tests.transport.tls_server import Peer, TlsServer

CLIENT, SECRET = "pipe+line", "canary secret/+:"
"""With what a form has to encode."""
REQUEST = Request(
    operation="transaction-create",
    method="POST",
    path="/Bundle",
    path_template="/Bundle",
    headers=(("Content-Type", "application/json+fhir"),),
    body=b"{}",
    request_id="r-1",
    timeouts=Timeouts(5, 10, 20),
    intent=Intent.CREATE,
)


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(text: str) -> int:
    return int.from_bytes(unb64(text), "big")


def b64_number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def whole(status: int, body: bytes, *headers: str) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n" + "".join(f"{one}\r\n" for one in headers)
    return head.encode() + b"\r\n" + body


def as_json(status: int, document: object, *headers: str) -> bytes:
    return whole(status, json.dumps(document).encode(), "Content-Type: application/json", *headers)


@dataclass
class Asked:
    """A request, taken apart."""

    method: str
    path: str
    headers: dict[str, str]
    body: str

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body).items()}


@dataclass
class AuthorizationServer:
    """`with AuthorizationServer(files) as server`. What it may be told to do is below; what it saw stands in `tokens` and `calls`."""

    files: Files
    public: dict[str, Any] | None = None
    """JWK with which assertions are checked."""
    lifetime: object = 3600
    trouble: Callable[[Asked], bytes | None] = lambda _: None
    """Asked first at the token endpoint: bytes are the answer."""
    rotates: bool = True
    offline: bool = True
    documents: tuple[str, ...] = ("smart-configuration",)
    more: dict[str, object] = field(default_factory=dict)
    """Put into the discovery document, over what stands there."""
    nonce: str | None = None
    """Of the ID token, where it is not the one that came."""
    slow: float = 0.0
    tokens: list[Asked] = field(default_factory=list)
    calls: list[Asked] = field(default_factory=list)
    discoveries: list[str] = field(default_factory=list)
    most: int = 0
    """Token requests at once, at most."""
    valid: set[str] = field(default_factory=set)
    jtis: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._ended = threading.Condition()
        self._peers: list[socket.socket] = []
        self._now = 0
        self._given = 0
        self._refresh = "canary-refresh-0"
        self._codes: dict[str, dict[str, str]] = {}
        self._key = rsa.generate_private_key(65537, 2048)
        self._tls = TlsServer(self.files, self._play)
        self._tls.__enter__()
        self.origin = f"https://localhost:{self._tls.port}"
        self.base = f"{self.origin}/base"
        return self

    def __exit__(self, *_: object) -> None:
        """Its threads end before their sockets are closed: one that still reads would read from whatever has that number next."""
        with self._ended:
            for sock in self._peers:
                try:
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
                except OSError:
                    continue
            self._ended.wait_for(lambda: not self._peers, 30)
        self._tls.__exit__()

    def revoke(self) -> None:
        """No token that was given is good any more."""
        with self._lock:
            self.valid.clear()

    def approve(self, url: str) -> str:
        """A person says yes in a browser: where that ends."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert url.startswith(f"{self.origin}/authorize?")
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        code = f"canary-code-{len(self._codes)}"
        self._codes[code] = asked
        return f"{asked['redirect_uri']}?code={code}&state={asked['state']}"

    def _play(self, peer: Peer) -> None:
        with self._ended:
            self._peers.append(peer.sock)
        try:
            self._serve(peer)
        finally:
            with self._ended:
                self._peers.remove(peer.sock)
                self._ended.notify_all()

    def _serve(self, peer: Peer) -> None:
        while raw := peer.read_request():
            head, _, body = raw.decode().partition("\r\n\r\n")
            first, *lines = head.split("\r\n")
            method, path, _ = first.split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            peer.say(self._answer(Asked(method, path, headers, body)))

    def _answer(self, asked: Asked) -> bytes:
        if ".well-known" in asked.path:
            return self._discovery(asked)
        if asked.path == "/jwks":
            return as_json(200, {"keys": [self._jwk()]})
        if asked.path == "/token":
            return self._counted(asked)
        with self._lock:
            self.calls.append(asked)
            good = asked.headers.get("authorization", "").removeprefix("Bearer ") in self.valid
        return as_json(200, {"resourceType": "Bundle"}) if good else as_json(401, {"resourceType": "OperationOutcome"})

    def _counted(self, asked: Asked) -> bytes:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.tokens.append(asked)
        try:
            if self.slow:
                threading.Event().wait(self.slow)
            return self._token(asked)
        finally:
            with self._lock:
                self._now -= 1

    def _discovery(self, asked: Asked) -> bytes:
        self.discoveries.append(asked.path)
        if not asked.path.endswith(self.documents):
            return whole(404, b"no such page")
        document = {
            "issuer": self.base,
            "token_endpoint": f"{self.origin}/token",
            "authorization_endpoint": f"{self.origin}/authorize",
            "jwks_uri": f"{self.origin}/jwks",
            "code_challenge_methods_supported": ["S256"],
            **self.more,
        }
        return as_json(200, {name: value for name, value in document.items() if value is not None})

    def _token(self, asked: Asked) -> bytes:
        if (told := self.trouble(asked)) is not None:
            return told
        if (why := self._not_the_client(asked)) is not None:
            return as_json(401, {"error": "invalid_client", "error_description": f"canary {why}"})
        grants = {"client_credentials": self._of_client, "refresh_token": self._of_refresh, "authorization_code": self._of_code}
        return grants[asked.form["grant_type"]](asked.form)

    def _of_client(self, form: dict[str, str]) -> bytes:
        return as_json(200, self._grant() | {"scope": form["scope"]})

    def _of_refresh(self, form: dict[str, str]) -> bytes:
        if form["refresh_token"] != self._refresh:
            return as_json(400, {"error": "invalid_grant"})
        return as_json(200, self._grant() | self._renewed())

    def _of_code(self, form: dict[str, str]) -> bytes:
        began = self._codes.pop(form["code"], None)
        verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
        if began is None or b64(verifier) != began["code_challenge"] or form["redirect_uri"] != began["redirect_uri"]:
            return as_json(400, {"error": "invalid_grant"})
        given = self._grant() | (self._renewed() if self.offline else {})
        return as_json(200, given | {"id_token": self.id_token(nonce=self.nonce or began["nonce"])})

    def _grant(self) -> dict[str, object]:
        with self._lock:
            self._given += 1
            token = f"canary-token-{self._given}"
            self.valid.add(token)
        life = {} if self.lifetime is None else {"expires_in": self.lifetime}
        return {"access_token": token, "token_type": "bearer", **life}

    def _renewed(self) -> dict[str, object]:
        if self.rotates:
            self._refresh = f"canary-refresh-{self._given}"
        return {"refresh_token": self._refresh}

    def _jwk(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "kid": "server",
            "alg": "RS256",
            "use": "sig",
            "n": b64_number(numbers.n),
            "e": b64_number(numbers.e),
        }

    def id_token(self, **claims: object) -> str:
        now = int(time.time())
        payload = {"iss": self.base, "sub": "someone", "aud": CLIENT, "exp": now + 300, "iat": now, **claims}
        parts = b64(json.dumps({"alg": "RS256", "kid": "server"}).encode()) + "." + b64(json.dumps(payload).encode())
        return f"{parts}.{b64(self._key.sign(parts.encode(), padding.PKCS1v15(), SHA256()))}"

    def _not_the_client(self, asked: Asked) -> str | None:
        """Why this is not our client; None where it is."""
        scheme, _, rest = asked.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            client, _, secret = base64.b64decode(rest).decode().partition(":")
            return None if (unquote(client), unquote(secret)) == (CLIENT, SECRET) else "basic"
        if "client_assertion" in asked.form:
            return self._bad_assertion(asked.form["client_assertion"])
        return None if (asked.form.get("client_id"), asked.form.get("client_secret")) == (CLIENT, SECRET) else "post"

    def _bad_assertion(self, assertion: str) -> str | None:
        head, body, signature = assertion.split(".")
        header, claims = json.loads(unb64(head)), json.loads(unb64(body))
        public = self.public
        assert public is not None
        if header["kid"] != public["kid"] or header["alg"] != public["alg"]:
            return "kid"
        signed, raw = f"{head}.{body}".encode(), unb64(signature)
        if header["alg"] == "RS384":
            rsa.RSAPublicNumbers(number(public["e"]), number(public["n"])).public_key().verify(
                raw, signed, padding.PKCS1v15(), SHA384()
            )
        else:
            half = len(raw) // 2
            der = encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
            key = ec.EllipticCurvePublicNumbers(number(public["x"]), number(public["y"]), ec.SECP384R1()).public_key()
            key.verify(der, signed, ec.ECDSA(SHA384()))
        if claims["jti"] in self.jtis:
            return "jti"
        self.jtis.add(claims["jti"])
        if not time.time() < claims["exp"] <= time.time() + 300:
            return "exp"
        right = (claims["iss"], claims["sub"], claims["aud"]) == (CLIENT, CLIENT, f"{self.origin}/token")
        return None if right else "claims"
