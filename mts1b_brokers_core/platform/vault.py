"""Vault, or OpenBao: a KV version 2 engine read over HTTP, with a token or by AppRole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mts1b_brokers_core.foundation.clock import Clock

from . import credentials as kept
from .security import forget_secret, redact, register_secret

if TYPE_CHECKING:
    import httpx

#: Where an instance's secret lies, the instance's name after it.
ROOT = "secret/mts1b/brokers"
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class _Login:
    """A token, when it ends by our clock, and how many seconds it is good for when it is fresh."""

    token: str = field(repr=False)
    ends: float
    lasts: float
    renewable: bool


class VaultSource(kept.Source):
    """The secrets under `ROOT` of the server that VAULT_ADDR names.

    It logs in with VAULT_TOKEN, or by AppRole with VAULT_ROLE_ID and VAULT_SECRET_ID. It keeps the lease's
    clock, renews the token in its last third, and logs in again where that is no longer possible.
    """

    name = "vault"

    def __init__(self, environ: Mapping[str, str], clock: Clock) -> None:
        self._environ = {
            name: value for name, value in environ.items() if name.startswith("VAULT_") and value
        }
        self._clock = clock
        self._login: _Login | None = None

    @property
    def idle(self) -> str:
        """Say why Vault can't be asked."""
        given = self._environ.keys()
        if "VAULT_ADDR" not in given:
            return "VAULT_ADDR is not set"
        login = "VAULT_TOKEN" in given or {"VAULT_ROLE_ID", "VAULT_SECRET_ID"} <= given
        return "" if login else "neither VAULT_TOKEN nor VAULT_ROLE_ID with VAULT_SECRET_ID is set"

    def place(self, instance: str) -> str:
        """Say which secret it is."""
        return f"vault {ROOT}/{instance}"

    @property
    def lease(self) -> float:
        """How many seconds the login is good for: infinite for one that never ends, 0 before the first."""
        return self._login.ends - self._clock.monotonic() if self._login else 0.0

    def condition(self, instance: str) -> str:
        """Say how long the login is good for."""
        return f"login good for {self.lease:.0f} s" if math.isfinite(self.lease) else "login does not end"

    async def fetch(self, instance: str) -> Mapping[str, str]:
        """Read an instance's secret."""
        return await self.fetch_path(f"{ROOT}/{instance}")

    async def fetch_path(self, path: str) -> Mapping[str, str]:
        """Read the secret at a path as the `vault kv` commands take it, the engine's mount first."""
        return kept.checked((await self._read(path))[0], f"vault {path}")

    async def write(self, instance: str, values: Mapping[str, str]) -> str:
        """Add values to the secret; one that somebody else changes meanwhile stays as it is."""
        path = f"{ROOT}/{instance}"
        there: Mapping[str, Any] = {}
        try:
            there, version = await self._read(path)
        except kept.CredentialsAbsent as absent:
            version = absent.version
        await self._call("POST", path, {"options": {"cas": version}, "data": {**there, **values}})
        return self.place(instance)

    async def _read(self, path: str) -> tuple[Mapping[str, Any], int]:
        data = (await self._call("GET", path)).get("data")
        facts = data.get("metadata") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(facts, dict):
            problem = f"vault {path} is not in a KV version 2 engine."
            raise kept.CredentialError(problem, next_step=f"enable one at {path.partition('/')[0]}/")
        version = int(facts.get("version", 0))
        if data.get("data") is None:
            absent = kept.CredentialsAbsent(f"deleted at {facts.get('deletion_time') or 'a time unknown'}")
            absent.version = version
            raise absent
        return data["data"], version

    # --- the wire ------------------------------------------------------------------------------------

    async def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask as somebody who is logged in, and once more after a new login where the token was refused."""
        import httpx

        if self.idle:
            raise kept.CredentialError(f"{self.idle}.", next_step="set VAULT_ADDR, and VAULT_TOKEN or a role")
        address, target = self._environ["VAULT_ADDR"], _data(path)
        try:
            async with httpx.AsyncClient(
                base_url=f"{address.rstrip('/')}/v1/", timeout=_TIMEOUT, trust_env=False,
                verify=_trusted(address, self._environ.get("VAULT_CACERT")),
            ) as client:  # fmt: skip
                await self._be_logged_in(client)
                reply = await self._send(client, method, target, body)
                if reply.status_code == 403 and self._by_role:
                    await self._log_in(client)
                    reply = await self._send(client, method, target, body)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise kept.CredentialStoreUnavailable(
                f"Vault at {redact(address)} can't be reached ({type(error).__name__}).",
                next_step="see that it runs, and VAULT_ADDR and VAULT_CACERT",
            ) from None
        return _judged(reply, path, "read" if method == "GET" else "write")

    async def _send(
        self, client: httpx.AsyncClient, method: str, target: str, body: object = None, *, login: bool = False
    ) -> httpx.Response:
        headers = {"X-Vault-Request": "true"}
        if "VAULT_NAMESPACE" in self._environ:
            headers["X-Vault-Namespace"] = self._environ["VAULT_NAMESPACE"]
        if self._login and not login:
            headers["X-Vault-Token"] = self._login.token
        return await client.request(method, target, json=body, headers=headers)

    @property
    def _by_role(self) -> bool:
        return "VAULT_TOKEN" not in self._environ

    async def _be_logged_in(self, client: httpx.AsyncClient) -> None:
        if self._login is None and not self._by_role:
            await self._take_token(client)
        if self._by_role and self.lease <= 0:
            await self._log_in(client)
        elif self._login and self._login.renewable and self.lease < self._login.lasts / 3:
            reply = await self._send(client, "POST", "auth/token/renew-self", {})
            auth = _body(reply).get("auth")
            renewed = isinstance(auth, dict) and self._keep(auth)
            if not renewed and self._by_role:
                await self._log_in(client)

    async def _take_token(self, client: httpx.AsyncClient) -> None:
        """Begin with the token given, for as long as the server says it is good."""
        token = self._environ["VAULT_TOKEN"]
        register_secret(token)
        self._login = _Login(token, math.inf, math.inf, renewable=False)
        about = _body(await self._send(client, "GET", "auth/token/lookup-self")).get("data")
        if isinstance(about, dict) and about.get("ttl"):
            now, left = self._clock.monotonic(), float(about["ttl"])
            whole = max(left, float(about.get("creation_ttl") or 0))
            self._login = _Login(token, now + left, whole, bool(about.get("renewable")))

    async def _log_in(self, client: httpx.AsyncClient) -> None:
        role, secret = self._environ["VAULT_ROLE_ID"], self._environ["VAULT_SECRET_ID"]
        register_secret(secret)
        asked = {"role_id": role, "secret_id": secret}
        reply = await self._send(client, "POST", "auth/approle/login", asked, login=True)
        if reply.status_code in (400, 403):
            cure = "make a new secret id for the role, and see VAULT_ROLE_ID"
            raise kept.CredentialsDenied("Vault refuses VAULT_ROLE_ID with VAULT_SECRET_ID.", next_step=cure)
        before, self._login = self._login, None
        self._keep(_judged(reply, "auth/approle/login", "use").get("auth") or {})
        if before is not None:
            forget_secret(before.token)

    def _keep(self, auth: Mapping[str, Any]) -> bool:
        """Keep a token given or renewed; False where the renewal could not fill its lease, near its end."""
        token, lasts = str(auth.get("client_token", "")), float(auth.get("lease_duration") or math.inf)
        register_secret(token)
        whole = max(lasts, self._login.lasts) if self._login else lasts
        self._login = _Login(token, self._clock.monotonic() + lasts, whole, bool(auth.get("renewable")))
        return lasts >= whole / 3


def _data(path: str) -> str:
    """Return the HTTP path of a secret: `data/` after its mount."""
    mount, _, rest = path.strip("/").partition("/")
    return f"{quote(mount)}/data/{quote(rest)}"


def _trusted(address: str, ca_file: str | None) -> Any:
    """Return what vouches for the server; without TLS there is nothing to check, and nothing to load."""
    if address.startswith("http://"):
        return False
    import ssl

    return ssl.create_default_context(cafile=ca_file) if ca_file else True


def _body(reply: httpx.Response) -> dict[str, Any]:
    try:
        found = reply.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _judged(reply: httpx.Response, path: str, verb: str) -> dict[str, Any]:
    """Return what was read, or raise what the answer means; a good answer is the secret and never shown."""
    status, body = reply.status_code, _body(reply)
    if status in (200, 204) or (
        status == 404 and body.get("data")
    ):  # of a deleted version 404 says since when
        return body
    words = "; ".join(map(str, body.get("errors") or ()))
    if status == 404 and "no handler" in words:
        mount = path.partition("/")[0]
        raise kept.CredentialError(
            f"Vault has no engine at {mount}/.", next_step=f"enable KV version 2 at {mount}/"
        )
    if status == 404:
        raise kept.CredentialsAbsent("nothing there")
    if status == 403:
        needed = '"read"' if verb == "read" else '"create", "update", "read"'
        raise kept.CredentialsDenied(
            f"Vault does not let us {verb} {path}: the token has ended, or no policy of it allows that.",
            next_step=f'make a new token, or allow it: path "{_data(path)}" {{ capabilities = [{needed}] }}',
        )
    if status == 400 and "check-and-set" in words:
        raise kept.CredentialConflict(f"vault {path} was changed meanwhile.")
    if status == 503:
        problem = "Vault is sealed or not initialised."
        raise kept.CredentialStoreUnavailable(problem, next_step="unseal it, then try again")
    if status in (429, 472, 473) or status >= 500:
        raise kept.CredentialStoreUnavailable(f"Vault answers {status}.", next_step="try again later")
    problem = f"Vault answers {status} to {path}: {redact(words)[:200] or 'no reason given'}."
    raise kept.CredentialError(problem, next_step="see VAULT_ADDR, and the server's log")
