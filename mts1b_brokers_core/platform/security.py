"""What must never be seen: registered secrets in every form, and what its name or its look gives away."""

from __future__ import annotations

import base64
import functools
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

#: Stands for it while the rest of a text is searched: no character that ends a value.
_MARK = "\ue000"

#: Shorter values occur in innocent text too, and can't be searched for.
SHORTEST = 6

_KINDS = ("api", "access", "private", "signing", "consumer", "app", "listen")
_KEYS = "|".join(f"{kind}[-_]?(?:key|sign)" for kind in _KINDS)
_WORDS = (
    "authorization|signature|passphrase|password|passwd|pwd|cookie|(?<!page)(?<!page[-_])token|jwt|otp|credentials?"
    f"|secret(?:[-_]?(?:key|id))?|(?<!trading)(?<!trading[-_])session[-_]?id|(?:{_KEYS})(?:[-_]?id)?|(?<![a-z])x[-_](?:key|sign|session)"
)
_BARE = r"""[^\s&;,"'\\(){}\[\]]+"""
#: What is secret by its look: a word that must be there before the search is worth its time, and the pattern.
_LOOKS = {
    "-----begin": r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)",
    "eyj": r"\beyJ[\w-]{8,}(?:\.[\w-]*)+",
    "://": r"://[^\s/@:]*:(?P<secret>[^\s/@]+)@",
    "code=": rf"[?&]code=(?P<secret>{_BARE})",
}
#: A secret-looking name with its value: headers in text, `name=value`, and quoted as in JSON and in reprs.
_NAMED = (
    r"(?:authorization|cookie):\s*(?P<secret>[^\r\n\"']+)|\bbearer\s+(?P<_bearer>[\w.~+/=-]{20,})",
    rf"(?:{_WORDS})=(?P<q>\\*[\"'])?(?P<secret>(?(q).*?(?=(?P=q))|{_BARE}))",
    rf"""\((?:b?["'][\w-]*)(?:{_WORDS})["'], ?b?(?P<q>["'])(?P<secret>.*?)(?=(?P=q))""",  # a header as a pair
    rf"(?:{_WORDS})(?P<_k>\\*[\"'])\s*:\s*"
    rf"(?:b?(?P<q>\\*[\"'])(?P<secret>(?:(?!(?P=q))(?:\\.|.))*)|(?P<_number>\d[\d.]*)|(?P<_open>[\[{{]))",
)

#: The same without quotation marks, before a colon.
_UNQUOTED = (
    rf"(?:(?<=-)(?:sign|{_WORDS})|\bapi-key):[ \t]*(?P<secret>{_BARE})",
    # Written as in a YAML file; words about a field, which have neither digits nor that length, stay.
    rf"(?:(?<=_)(?:{_WORDS})|\b(?:{_KEYS})|pwd|passw(?:or)?d):[ \t]*(?=\S*\d|\S{{20}})(?P<secret>{_BARE})",
)

_insensitive = functools.partial(re.compile, flags=re.IGNORECASE | re.DOTALL)
# Lower case and letters first, which a search skips to; the patterns above take many times as long.
_word = re.compile(
    f"authorization|signature|pass|cookie|secret|token|jwt|otp|credential|bearer|x[-_](?:key|s)|{_KEYS}"
    "|pwd|session[-_]?id"
).search
_secret_name = _insensitive(rf"(?:{_WORDS})\Z")
_colon, _unquoted = re.compile("[a-z]:(?!//)").search, [*map(_insensitive, _UNQUOTED)]
_looks, _named = {hint: _insensitive(_LOOKS[hint]) for hint in _LOOKS}, [*map(_insensitive, _NAMED)]
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


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes | bytearray):
        text = value.decode("utf-8", "surrogateescape")
        clean = _text(text)
        return value if clean == text else type(value)(clean.encode("utf-8", "surrogateescape"))
    if isinstance(value, Mapping):
        return {_redacted(name): _beside(name, held) for name, held in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | bytes):
        return (_redacted(value[0]), _beside(*value))
    if isinstance(value, list | tuple | set | frozenset):
        kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
        return kind(_redacted(held) for held in value)
    return value


def _beside(name: object, value: Any) -> Any:
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    if value in (None, "", True, False) or not (isinstance(text, str) and _secret_name.search(text)):
        return _redacted(value)
    return REDACTED.encode() if isinstance(value, bytes) else REDACTED


def _text(text: str) -> str:
    known = (_known or _compile()) if _secrets else None
    # Whole secrets first: what ends the value of a name may stand in the middle of one.
    clean = known.sub(_MARK, text) if known else text
    lower = clean.lower()
    for hint, pattern in _looks.items():
        if hint in lower:
            clean = pattern.sub(_cut, clean)
    if _word(lower):
        for pattern in (*_named[:-1], *(_unquoted if _colon(lower) else ())):
            clean = pattern.sub(_cut, clean)
        clean = _without_values(clean)
    for pattern in _patterns:
        clean = pattern.sub(_cut, clean)
    if known is None or clean == text:
        return clean
    clean = clean.replace(_MARK, REDACTED)
    for _ in range(4):  # what stands around one secret may complete another
        before, clean = clean, known.sub(REDACTED, clean)
        if clean == before:
            return clean
    return REDACTED


def _without_values(text: str) -> str:
    """Cut the values of quoted names, lists and tables to their last bracket."""
    parts: list[str] = []
    at = 0
    while match := _named[-1].search(text, at):
        parts += text[at : match.start()], _cut(match)
        at = _end_of_nested(text, match) if match["_open"] else match.end()
    return "".join((*parts, text[at:])) if parts else text


def _end_of_nested(text: str, match: re.Match[str]) -> int:
    depth = 0
    for piece in _pieces(match["_k"]).finditer(text, match.start("_open")):
        depth += (piece[0] in "[{") - (piece[0] in "]}")
        if not depth:
            return piece.end()
    return len(text)  # cut off: whatever is there belongs to it


@functools.lru_cache(8)
def _pieces(mark: str) -> re.Pattern[str]:
    """Return what finds brackets, and whole texts in such marks: a bracket in them counts for nothing.

    JSON within JSON marks its texts with backslashes, and twice as many escape one within.
    """
    slashes, quote_ = len(mark) - 1, mark[-1]
    escaped = rf"\\{{{2 * slashes + 2}}}|\\{{{2 * slashes + 1}}}{quote_}"
    mark = re.escape(mark)
    return re.compile(rf"{mark}(?:{escaped}|(?!{mark}).)*+{mark}|[\[\]{{}}]", re.DOTALL)


def _cut(match: re.Match[str]) -> str:
    groups, kinds = match.groupdict(), ("secret", "_bearer", "_number", "_open")
    group = next((name for name in kinds if groups.get(name) is not None), 0)
    (start, end), begin = match.span(group), match.start()
    mark = groups["_k"] if group in ("_number", "_open") else ""  # so that JSON stays JSON
    shown = f"{mark}{REDACTED}{mark}" if end > start else ""
    return f"{match[0][: start - begin]}{shown}{match[0][end - begin :]}"


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
