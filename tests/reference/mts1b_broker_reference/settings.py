"""What can be set about a reference broker."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from mts1b_brokers_core.foundation import BrokerSettings


class ReferenceSettings(BrokerSettings):
    """The reference broker's settings; the simulator fills in addresses and throwaway credentials."""

    base_url: str = Field(
        "", description="Where the venue listens for requests.", examples=["http://127.0.0.1:8080"]
    )
    ws_url: str = Field("", description="Where it streams from.", examples=["ws://127.0.0.1:8080/v1/stream"])
    api_key: SecretStr = Field(description="The key's name at the venue.")
    api_secret: SecretStr = Field(description="What requests are signed with.")
    ca_file: Path | None = Field(
        None, description="Certificates to trust instead of the system's, for a venue behind TLS."
    )
    profile: str = Field(
        "native_dedupe", description="Which kind of venue this is: the name of a set of properties."
    )
    timeout: float = Field(20.0, gt=0, description="Seconds until an unanswered request is given up.")
    requests_per_second: int | None = Field(
        None,
        gt=0,
        description="How many requests the venue allows, where it has a limit; we wait to keep it.",
    )
