"""What must never be seen: registered secrets in every form, and what its name or its look gives away."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:  # neither the recorder nor the logger needs pydantic for this
    from pydantic import SecretStr

T = TypeVar("T")

#: What stands where a secret stood.
REDACTED = "[redacted]"

#: Shorter values occur in innocent text too, and can't be searched for.
SHORTEST = 6

_WORDS = (
    "authorization|signature|passphrase|password|passwd|cookie|secret|(?<!page)(?<!page[-_])token|jwt|otp"
    "|(?:api|access|private|secret|signing|consumer|app)[-_]?(?:key|sign)(?:[-_]?id)?|secret[-_]?id"
    "|(?<![a-z])x[-_](?:key|sign|session)|credentials?"
)
_BARE = r"""[^\s&;,"'\\(){}\[\]]+"""
_HINTS = ("auth", "sign", "pass", "cookie", "secret", "token", "jwt", "otp", "key", "x-session", "credential")


def _insensitive(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


_secret_name = _insensitive(rf"(?:{_WORDS})\Z").search
#: What looks secret, beneath the words of which one must occur before a search is worth its time.
_LOOKS = (
    (("-----begin",), (_insensitive(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)"),)),
    (("eyj",), (_insensitive(r"\beyJ[\w-]{8,}(?:\.[\w-]*)+"),)),
    (("://",), (_insensitive(r"://[^\s/@:]*:(?P<secret>[^\s/@]+)@"),)),
    (("code=",), (_insensitive(rf"[?&]code=(?P<secret>{_BARE})"),)),
    (
        _HINTS,
        (
            _insensitive(r"(?:authorization|cookie):\s*(?P<secret>[^\r\n\"']+)"),
            _insensitive(rf"(?:(?<=-)(?:sign|{_WORDS})|\bapi-key):[ \t]*(?P<secret>{_BARE})"),
            _insensitive(rf"(?:{_WORDS})=(?P<q>\\*[\"'])?(?P<secret>(?(q).*?(?=(?P=q))|{_BARE}))"),
            # Quoted as in JSON, in JSON within JSON, and in reprs.
            _insensitive(
                rf"(?:{_WORDS})(?P<k>\\*[\"'])\s*:\s*"
                rf"(?:b?(?P<q>\\*[\"'])(?P<secret>(?:(?!(?P=q))(?:\\.|.))*)|(?P<number>\d[\d.]*))"
            ),
        ),
    ),
    (("bearer",), (_insensitive(r"\bbearer\s+(?P<secret>[\w.~+/=-]{20,})"),)),
)

_lock = threading.Lock()
_secrets: dict[str, None] = {}
_patterns: tuple[re.Pattern[str], ...] = ()
_known: re.Pattern[str] | None = None  # every form of every secret; None when one was registered since


def register_secret(value: str | SecretStr) -> None:
    """Keep a value, and its quoted, encoded and escaped forms, out of all that `redact` returns.

    Values of fewer than `SHORTEST` characters are left out: they can't be searched for.
    """
    global _known
    text = value if isinstance(value, str) else value.get_secret_value()
    lines = [line for line in text.splitlines() if len(line) >= 16 and not line.startswith("-----")]
    with _lock:
        for secret in (text, text.strip(), *lines):
            if len(secret) >= SHORTEST and secret not in REDACTED and secret not in _secrets:
                _secrets[secret], _known = None, None


def forget_secret(value: str) -> None:
    """Stop searching for a value that is of no use any more, as an expired token: many slow each line."""
    global _known
    with _lock:
        if _secrets.pop(value, 0) is None:
            _known = None


def register_pattern(pattern: re.Pattern[str]) -> None:
    """Redact what the pattern matches: its group `secret` where it has one, the whole match otherwise."""
    global _patterns
    with _lock:
        if pattern not in _patterns:
            _patterns = (*_patterns, pattern)


def redact(value: T) -> T:
    """Return the value with `REDACTED` for each secret: text, bytes, mappings and sequences of them.

    In a mapping, and in pairs like those of a list of headers, a name that looks secret hides its value.
    Anything else is returned as it is.
    """
    result: Any = _redacted(value)
    return result  # type: ignore[no-any-return]


def looks_secret(name: object) -> bool:
    """Tell whether the value of a field, header or parameter of this name is taken for a secret."""
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    return isinstance(name, str) and _secret_name(name) is not None


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes | bytearray):
        text = value.decode("utf-8", "surrogateescape")
        clean = _text(text)
        return value if clean == text else type(value)(clean.encode("utf-8", "surrogateescape"))
    if isinstance(value, Mapping):
        return {_redacted(name): _named(name, held) for name, held in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | bytes):
        return (_redacted(value[0]), _named(value[0], value[1]))
    if isinstance(value, list | tuple | set | frozenset):
        kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
        return kind(_redacted(held) for held in value)
    return value


def _named(name: object, value: Any) -> Any:
    if value is None or value == "" or isinstance(value, bool) or not looks_secret(name):
        return _redacted(value)
    return REDACTED.encode() if isinstance(value, bytes) else REDACTED


def _text(text: str) -> str:
    lower, clean = text.lower(), text
    for hints, patterns in _LOOKS:
        for hint in hints:
            if hint in lower:
                for pattern in patterns:
                    clean = pattern.sub(_cut, clean)
                break
    for pattern in _patterns:
        clean = pattern.sub(_cut, clean)
    if not _secrets:
        return clean
    known = _known or _compile()
    for _ in range(4):  # what stands around one secret may complete another
        before, clean = clean, known.sub(REDACTED, clean)
        if clean == before:
            return clean
    return REDACTED


def _cut(match: re.Match[str]) -> str:
    groups = match.groupdict()
    if groups.get("number"):
        start, end, shown = *match.span("number"), f"{match['k']}{REDACTED}{match['k']}"
    else:
        start, end = match.span("secret" if groups.get("secret") is not None else 0)
        shown = REDACTED if end > start else ""
    return match[0][: start - match.start()] + shown + match[0][end - match.start() :]


def _compile() -> re.Pattern[str]:
    """Compile all forms into one alternation, grouped by first character so that few branches are tried."""
    global _known
    with _lock:
        groups: dict[str, set[str]] = {}
        for form in {form for secret in _secrets for form in _forms(secret)}:
            groups.setdefault(form[0], set()).add(form[1:])
        branches = (
            f"{re.escape(first)}(?:{'|'.join(map(re.escape, sorted(rests, key=len, reverse=True)))})"
            for first, rests in groups.items()
        )
        _known = re.compile("|".join(branches) or r"(?!)")
        return _known


def _forms(secret: str) -> Iterator[str]:
    yield secret
    for whole in (json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret)):
        yield from (whole[1:-1], json.dumps(whole[1:-1])[1:-1])
    for quoted in (quote(secret, "", errors="surrogatepass"), quote(secret, errors="surrogatepass")):
        yield from (quoted, re.sub("%..", lambda match: match[0].lower(), quoted))
    yield quote_plus(secret, errors="surrogatepass")
    raw = secret.encode("utf-8", "surrogatepass")
    for shift, start in ((0, 0), (1, 2), (2, 3)):  # where it may stand within what was encoded with it
        encoded = base64.b64encode(b"\0" * shift + raw).decode()[start : (shift + len(raw)) * 8 // 6]
        yield from (encoded, encoded.replace("+", "-").replace("/", "_"))
