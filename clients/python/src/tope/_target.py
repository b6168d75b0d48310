"""Where the server is, and how the client shows who it is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import grpc

DEFAULT_TARGET = "127.0.0.1:50051"


def _read(path: str | Path, setting: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{setting} names {path}, which cannot be read: {error.strerror}") from None


@dataclass
class Target:
    """The address of a server, with a key and with certificates. The key never appears in a text."""

    address: str
    tls: bool = False
    key: str | None = field(default=None, repr=False)
    key_file: str | None = None
    ca: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    _read_at: float = field(default=-1.0, repr=False)

    @staticmethod
    def parse(
        target: str | None,
        *,
        key: str | None = None,
        key_file: str | None = None,
        ca: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
    ) -> Target:
        """Reads a target as the commands of Tope do: `HOST:PORT`, or a URL with `http` or `https`.

        What is not given comes from TOPE_TARGET, TOPE_KEY_FILE and TOPE_CA_FILE.
        """
        text = target or os.environ.get("TOPE_TARGET") or DEFAULT_TARGET
        key_file = key_file or (None if key else os.environ.get("TOPE_KEY_FILE"))
        ca = ca or os.environ.get("TOPE_CA_FILE")
        scheme, address = _split(text)
        if (client_cert is None) != (client_key is None):
            raise ValueError("client_cert and client_key must be given together")
        if scheme != "https" and client_cert:
            raise ValueError(f"client_cert needs a target that begins with https://, and {text!r} does not")
        if key is not None and (not key.isascii() or not key.isprintable() or " " in key or not key):
            raise ValueError("key must be the text that `tope keys create` printed")
        return Target(address, scheme == "https", key, key_file, ca, client_cert, client_key)

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Returns None for a server without TLS."""
        if not self.tls:
            return None
        return grpc.ssl_channel_credentials(
            _read(self.ca, "ca") if self.ca else None,
            _read(self.client_key, "client_key") if self.client_key else None,
            _read(self.client_cert, "client_cert") if self.client_cert else None,
        )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns the metadata of each call."""
        if self.key is None and self.key_file:
            self.read_key()
        return (("authorization", f"Bearer {self.key}"),) if self.key else ()

    def read_key(self) -> bool:
        """Reads the file of the key if it has changed. Returns whether there is another key now."""
        if not self.key_file:
            return False
        content = _read(self.key_file, "key_file")
        before, self.key = self.key, content.decode("ascii", "replace").strip()
        if not self.key or not self.key.isprintable() or not self.key.isascii():
            self.key = None
            raise ValueError(f"key_file names {self.key_file}, which contains no key")
        return self.key != before


def _split(text: str) -> tuple[str, str]:
    """Returns the scheme, and host and port."""
    fault = f"target must be HOST:PORT, or a URL with http or https, and not {text!r}"
    if "://" not in text:
        text = f"http://{text}"
    url = urlsplit(text)
    try:
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError(fault) from None
    if (
        url.scheme not in ("http", "https")
        or not host
        or url.path not in ("", "/")
        or url.query
        or url.username
        or " " in host
    ):
        raise ValueError(fault)
    port = port or {"http": 80, "https": 443}[url.scheme]
    return url.scheme, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
