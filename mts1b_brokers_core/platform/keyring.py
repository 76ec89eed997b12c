"""The operating system's keyring, where the package `keyring` is installed and has a safe one to use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from .credentials import CredentialError, CredentialsAbsent, CredentialStoreUnavailable, Source, checked

#: The service under which instances' credentials are kept, each as one JSON object.
SERVICE = "mts1b-brokers"


class KeyringSource(Source):
    """One entry for each instance in the keyring of the user who is logged in."""

    name = "keyring"
    asks_its_owner = True

    def place(self, instance: str) -> str:
        """Say which entry it is."""
        return f"keyring {SERVICE}/{instance}"

    @property
    def idle(self) -> str:
        """Say why the keyring can't be asked."""
        if find_spec("keyring") is None:
            return "not installed: pip install 'mts1b-brokers-core[keyring]'"
        backend = self._backend
        if backend.priority < 1:  # the one that fails, or one that writes plain text into a file
            return f"no safe keyring here: {type(backend).__module__} has priority {backend.priority:g}"
        return ""

    @cached_property
    def _backend(self) -> Any:
        import keyring

        chosen = keyring.get_keyring()
        return max(getattr(chosen, "backends", ()) or (chosen,), key=lambda backend: float(backend.priority))

    async def fetch(self, instance: str) -> Mapping[str, str]:
        """Read the entry; the keyring may ask its owner to unlock it."""
        text = await self._call("get_password", instance)
        if text is None:
            raise CredentialsAbsent("no entry")
        try:
            return checked(json.loads(text), self.place(instance))
        except ValueError:
            cure = f"delete the entry and store it with `credentials set {instance} --to keyring`"
            raise CredentialError(f"{self.place(instance)} is not one of ours.", next_step=cure) from None

    async def write(self, instance: str, values: Mapping[str, str]) -> str:
        """Add values to the entry."""
        both = {**(await self.read(instance) or {}), **values}
        await self._call("set_password", instance, json.dumps(both))
        return self.place(instance)

    async def _call(self, method: str, *words: str) -> Any:
        if self.idle:
            raise CredentialStoreUnavailable(f"{self.idle}.", next_step="use a file or Vault")
        from keyring.errors import KeyringError

        try:
            return await asyncio.to_thread(getattr(self._backend, method), SERVICE, *words)
        except KeyringError as error:
            cause = type(error).__name__  # its words may hold what was to be stored
            raise CredentialStoreUnavailable(
                f"the keyring refused: {cause}.", next_step="unlock it"
            ) from None
