"""What may hold a secret: by the name of a file or a setting, by a value of the environment, by the look of a text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import PurePath

NAMES = "key|token|passw|secret|credential|auth|dsn|cookie|private"
SECRET = re.compile(NAMES, re.IGNORECASE)
"""Found in the name of an option, a key or an environment variable whose value is nobody's business."""

_FILES = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".npmrc", ".pypirc", ".htpasswd"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx", "*.ppk", "*.gpg", "*.asc", "id_rsa*", "id_dsa*"),
    *("id_ecdsa*", "id_ed25519*", "*credential*", "*secret*", "*token*", "*passw*", "*apikey*", "*api_key*"),
)
_FOLDERS = {".ssh", ".aws", ".gnupg", ".azure", ".kube", ".docker"}
_KEYS = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}"
    r"|\bxox[abeoprs]-[\w-]{10,}|\bhf_[A-Za-z0-9]{30,}|\bsk-[\w-]{20,}|\bAIza[\w-]{35}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{5,}"  # a signed web token
)
_IN_URL = re.compile(r"://[^\s/:@'\"]+:([^\s/@'\"{}$<>*]{3,})@")
_PLACEHOLDERS = {"password", "passwd", "secret", "pw"}
_SETTING = r"(?:api[_-]?key|access[_-]?key|secret(?:[_-]?(?:key|access[_-]?key))?|token|passw(?:or)?d|credentials?)"
_QUOTED = re.compile(rf"{_SETTING}[\"']?\s*[:=]\s*[\"']([^\s\"'{{}}$<>*]{{8,}})[\"']", re.IGNORECASE)
_BARE = re.compile(rf"{_SETTING}\s*[:=]\s*([^\s\"'{{}}()\[\]$<>*,;]{{8,}})", re.IGNORECASE)
_SHORTEST = 8
"""Characters of a value of the environment that is looked for: a shorter one may be a word."""


def has_secret_name(path: str) -> bool:
    """Whether a file is of a kind that holds keys or passwords: ``.env``, ``id_rsa``, ``wandb_token.txt``."""
    *folders, name = PurePath(path.lower()).parts or ("",)
    return not _FOLDERS.isdisjoint(folders) or any(fnmatch(name, pattern) for pattern in _FILES)


def holds_secret(text: str, is_code: bool = False, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a text has what looks like a key or password, or the value of an environment variable that is one.

    Args:
        is_code: Of a program, where ``token = tokens_by_frame`` is no secret: only literal values count.
    """
    if _KEYS.search(text) or any(value in text for value in secret_values(environ)):
        return True
    if any(match[1].lower() not in _PLACEHOLDERS for match in _IN_URL.finditer(text)):
        return True
    found = [*_QUOTED.finditer(text), *([] if is_code else _BARE.finditer(text))]
    return any(re.search(r"\d", match[1]) and re.search(r"[A-Za-z]", match[1]) for match in found)


def secret_values(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Values of the environment variables whose names say that they are secret, the longest first."""
    values = {value for name, value in environ.items() if SECRET.search(name) and len(value) >= _SHORTEST}
    return sorted(values, key=lambda value: (-len(value), value))
