"""A certificate authority that lives as long as one server."""

from __future__ import annotations

import shutil
import ssl
import tempfile
from pathlib import Path


class ThrowawayAuthority:
    """Issues the certificate of one local server; `ca_file` is what a client has to trust."""

    def __init__(self, *names: str) -> None:
        import trustme

        authority = trustme.CA()
        self._folder = Path(tempfile.mkdtemp(prefix="mts1b-ca-"))
        self.ca_file = self._folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(self.context)

    def discard(self) -> None:
        """Delete what was written."""
        shutil.rmtree(self._folder, ignore_errors=True)
