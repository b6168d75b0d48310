"""Keys and TLS, with the real server."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import tope
from tope import errors
from tope.testing import Server, find_binary
from tope.v1 import admin_service_pb2 as admin_pb
from tope.v1 import key_pb2, policy_pb2


def make_key(server: Server, *options: str) -> str:
    command = [str(find_binary()), "keys", "create", "--database", f"sqlite://{server._folder.name}/tope.db", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def keyed() -> Iterator[tuple[Server, str]]:
    """A server that asks for keys, with a tenant `t` and a key of an administrator."""
    with Server(options=["--auth", "keys"]) as server:
        admin = make_key(server, "--role", "admin")
        client = tope.Client(server.target, key=admin)
        client.call("CreateResource", admin_pb.CreateResourceRequest(resource=policy_pb2.Resource(id="tokens")))
        limits = [policy_pb2.Limit(id="l", resource="tokens", quantity=1_000, period=policy_pb2.PERIOD_DAY)]
        client.call("CreatePlan", admin_pb.CreatePlanRequest(plan=policy_pb2.Plan(id="p", limits=limits)))
        client.call("CreateTenant", admin_pb.CreateTenantRequest(tenant=policy_pb2.Tenant(id="t", plan="p")))
        client.close()
        yield server, admin


def test_a_key_of_a_spender_is_enough(keyed: tuple[Server, str]) -> None:
    server, _ = keyed
    client = tope.Client(server.target, tenant="t", key=make_key(server, "--role", "spender", "--tenant", "t"))
    with client.hold(10, agent="sync") as hold:
        hold.use(tokens=3)

    @client.guard(10, agent="background", prompt="a")
    def stream() -> Iterator[str]:
        yield "x"
        yield "y"

    for _ in stream():
        break

    async def main() -> None:
        async with client.hold(10, agent="async") as hold:
            hold.use(tokens=4)
        await client.aclose()

    asyncio.run(main())
    assert client.lost == 0
    assert hold.settlement is not None
    assert hold.settlement.error is None


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (None, errors.KeyMissing),
        ("nonsense", errors.KeyMalformed),
        ("tope_AAAAAAAAAAAA_" + "b" * 43, errors.Unauthenticated),
    ],
)
def test_a_wrong_key_is_an_error_without_the_key(
    keyed: tuple[Server, str], key: str | None, error: type[tope.TopeError]
) -> None:
    client = tope.Client(keyed[0].target, tenant="t", key=key, on_unavailable="allow")
    with pytest.raises(error) as caught, client.hold(1):
        pass
    assert not caught.value.transient
    if key:
        assert key not in str(caught.value) + repr(caught.value)
        assert key not in repr(client._transport.target)  # type: ignore[attr-defined]
    client.close(0.1)


def test_a_key_of_another_tenant_is_not_permitted(keyed: tuple[Server, str]) -> None:
    server, _ = keyed
    client = tope.Client(server.target, tenant="t", key=make_key(server, "--role", "spender", "--tenant", "other"))
    with pytest.raises(errors.NotPermitted), client.hold(1):
        pass
    client.close()


def test_a_file_of_a_key_is_read_again_when_the_key_is_exchanged(
    keyed: tuple[Server, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, admin = keyed
    first, second = (make_key(server, "--role", "spender", "--tenant", "t") for _ in range(2))
    path = tmp_path / "key"
    path.write_text(first + "\n")
    monkeypatch.setenv("TOPE_KEY_FILE", str(path))
    client = tope.Client(server.target, tenant="t")
    with client.hold(1) as hold:
        hold.use(tokens=1)
    operator = tope.Client(server.target, key=admin)
    operator.call("DeleteKey", key_pb2.DeleteKeyRequest(id=first.split("_")[1]))
    with pytest.raises(errors.Unauthenticated), client.hold(1):
        pass
    path.write_text(second)
    with client.hold(1) as hold:
        hold.use(tokens=1)
    assert hold.settlement is not None
    assert hold.settlement.error is None
    for one in (client, operator):
        one.close()


def test_a_key_that_ends_before_the_settlement_loses_nothing(keyed: tuple[Server, str], tmp_path: Path) -> None:
    server, admin = keyed
    first, second = (make_key(server, "--role", "spender", "--tenant", "t") for _ in range(2))
    path = tmp_path / "key"
    path.write_text(first)
    client = tope.Client(server.target, tenant="t", key_file=str(path))
    operator = tope.Client(server.target, key=admin)
    with client.hold(10) as hold:
        hold.use(tokens=6)
        operator.call("DeleteKey", key_pb2.DeleteKeyRequest(id=first.split("_")[1]))
    assert not client.flush(0.5), "no key is valid yet"
    path.write_text(second)
    assert client.flush(20)
    assert hold.settlement is not None
    assert hold.settlement.error is None
    assert hold.settlement.amounts == {"tokens": 6}
    for one in (client, operator):
        one.close()


# TLS.


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and certificates of it for a server and a client."""
    folder = tmp_path_factory.mktemp("tls")
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl(folder, *new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("server", "client"):
        (folder / f"{name}.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl(folder, *new[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        sign = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        openssl(folder, *sign, "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
    return folder


def test_tls_with_a_certificate_of_the_client(certificates: Path) -> None:
    def path(name: str) -> str:
        return str(certificates / name)

    options = ["--tls-cert", path("server.pem"), "--tls-key", path("server.key"), "--tls-client-ca", path("ca.pem")]
    with Server(options=options) as server:
        target = f"https://localhost:{server.port}"
        mine = {"ca": path("ca.pem"), "client_cert": path("client.pem"), "client_key": path("client.key")}
        client = tope.Client(target, tenant="t", **mine)
        with pytest.raises(errors.TenantNotFound), client.hold(1):
            pass

        async def main() -> None:
            with pytest.raises(errors.TenantNotFound):
                async with client.hold(1):
                    pass
            await client.aclose()

        asyncio.run(main())
        for options_ in ({"ca": path("ca.pem")}, {k: v for k, v in mine.items() if k != "ca"}):
            stranger = tope.Client(target, tenant="t", timeout=1.0, **options_)
            with pytest.raises(tope.Unavailable), stranger.hold(1):
                pass
            stranger.close(0.1)
