"""The package: its files, its types, the time of its import, and its generated code."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

import tope
from tope import prices

HERE = ROOT / "clients/python"

USER = """
import tope


client = tope.Client("127.0.0.1:1", tenant="t", on_unavailable=lambda error, tenant: tenant == "vip")


def sync(prompt: str) -> str:
    with client.hold({"tokens": 100}, prompt=prompt, labels={"run": "1"}) as hold:
        granted: int = hold.granted["tokens"]
        hold.use({"usage": {}}, tokens=granted)
        for chunk in hold.watch(["a", "b"]):
            text: str = chunk
        return hold.request_id


async def asynchronous() -> int:
    async with client.hold(100) as hold:
        await hold.extend({"tokens": 5})
        settlement = await hold.commit(tokens=5)
    return 0 if settlement is None or settlement.amounts is None else settlement.amounts["tokens"]


@client.guard(100, tenant=lambda number: f"t{number}")
def decorated(number: int) -> str:
    return str(number)


@tope.guard(100)
async def decorated_too(number: int) -> str:
    return str(number)


async def use() -> None:
    one: str = decorated(5)
    two: str = await decorated_too(5)
    try:
        sync(one + two)
    except tope.QuotaExceeded as error:
        print(error.limit, error.retry_after or 0.0)
    for balance in client.calls.usage("t"):
        print(balance.limit_id, balance.remaining + 1)
"""


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    found: str = done.stdout
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=HERE)
    [found] = folder.glob("*.whl")
    return found


def test_the_wheel_has_one_package_with_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"tope", f"tope-{tope.__version__}.dist-info"}
    assert wheel.name == f"tope-{tope.__version__}-py3-none-any.whl"
    wanted = {
        "tope/py.typed",
        "tope/v1/quota_service_pb2.pyi",
        "tope/v1/quota_service_pb2_grpc.py",
        "tope/rpc/status_pb2.py",
    }
    assert wanted <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    [metadata] = [zipfile.ZipFile(wheel).read(name).decode() for name in names if name.endswith("METADATA")]
    for line in ("Requires-Python: >=3.10", "Requires-Dist: grpcio>=1.64.3", "Requires-Dist: protobuf<8,>=5.26"):
        assert line in metadata


TESTS_OF_A_USER = """
import pytest, tope


@pytest.fixture(params=["fake", "server"])
def client(request):
    home = request.getfixturevalue(f"tope_{request.param}")
    home.add("acme", {"tokens": 100})
    yield tope.Client(home if request.param == "fake" else home.target, tenant="acme")


def test_it(client):
    with client.hold(60) as hold:
        hold.use(tokens=60)
    with pytest.raises(tope.QuotaExceeded), client.hold(60):
        pass
    client.close()
"""


def test_the_wheel_is_installed_into_an_empty_place(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, "pytest")
    (tmp_path / "test_user.py").write_text(TESTS_OF_A_USER)
    output = run(python, "-m", "pytest", "-q", "test_user.py", cwd=tmp_path)
    assert "2 passed" in output


def test_the_version_is_that_of_the_server() -> None:
    cargo = (ROOT / "Cargo.toml").read_text().split("[package]")[1]
    version = next(line.split('"')[1] for line in cargo.splitlines() if line.startswith("version"))
    assert tope.__version__ == version == importlib.metadata.version("tope")


def test_nothing_of_google_rpc_is_registered() -> None:
    """A second registration of these names would conflict with googleapis-common-protos."""
    text = """
    import tope, tope.testing, tope.v1.quota_service_pb2_grpc, tope.v1.admin_service_pb2_grpc
    from google.protobuf import descriptor_pool
    for name in ("google/rpc/status.proto", "google/rpc/error_details.proto"):
        try:
            descriptor_pool.Default().FindFileByName(name)
        except KeyError:
            continue
        raise SystemExit(name)
    """
    run(sys.executable, "-c", textwrap.dedent(text))


def test_the_import_takes_less_than_0_3_seconds() -> None:
    """Beyond the start of Python, on a machine that also does other things: the best of some tries."""
    text = "import time; t = time.process_time(); import tope; print(time.process_time() - t)"
    assert min(float(run(sys.executable, "-c", text)) for _ in range(5)) < 0.3


def test_the_import_loads_neither_frameworks_nor_prices() -> None:
    text = "import sys, tope; print([n for n in ('httpx', 'genai_prices', 'pytest', 'pydantic') if n in sys.modules])"
    assert run(sys.executable, "-c", text).strip() == "[]"


@pytest.mark.parametrize("tool", ["mypy", "pyright"])
def test_a_program_of_a_user_has_no_faults_of_types(tool: str, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER)
    if tool == "mypy":
        run(sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", "user.py", cwd=tmp_path)
    else:
        run(sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "user.py", cwd=tmp_path)
    (tmp_path / "wrong.py").write_text("import tope\ntope.Client(5).hold(1, tenat='t')\n")
    command = [sys.executable, "-m", tool, "wrong.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode != 0


def test_prices_are_in_nanos_and_rounded_up() -> None:
    assert prices.nanos(tope.Usage(1_000, 100), "gpt-4o") == 3_500_000
    # A token of this model costs less than a micro-dollar.
    cheap = prices.nanos(tope.Usage(1, 0), "gpt-4.1-nano")
    assert cheap is not None
    assert 0 < cheap < 1_000
    assert prices.nanos(tope.Usage(1, 1), "no-such-model") is None


def test_a_hold_reserves_and_commits_its_cost() -> None:
    from tope.testing import Fake

    fake = Fake()
    fake.add("t", {"tokens": 100_000, "cost_nanos": 20_000_000})
    client = tope.Client(fake, tenant="t", price=prices.nanos)
    with client.hold(1_100, model="gpt-4o") as hold:
        assert hold.granted == {"tokens": 1_100, "cost_nanos": 11_000_000}, "all tokens might be output"
        hold.use(tope.Usage(1_000, 100))
    assert hold.settlement is not None
    assert hold.settlement.amounts == {"tokens": 1_100, "cost_nanos": 3_500_000}
    with client.hold(10, model="no-such-model") as hold:
        assert "cost_nanos" not in hold.granted
        hold.use(tope.Usage(5, 5))
    with pytest.raises(tope.QuotaExceeded) as caught, client.hold(5_000, model="gpt-4o"):
        pass
    assert caught.value.limit == "cost_nanos-per-day"
    client.close()
