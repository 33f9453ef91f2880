"""Database URLs as libpq reads them, and the secrets in them."""

from __future__ import annotations

import re
from urllib.parse import unquote

from tterec.errors import ConfigError

# What libpq itself takes for a secret.
_SECRETS = (
    "password",
    "sslpassword",
    "oauth_client_secret",
    "scram_client_key",
    "scram_server_key",
)

URL_FORM = (
    "write postgresql://user:password@host:5432/database, in the password "
    "%40 for @, %3A for :, %2F for /, %3F for ?, %23 for # and %25 for %"
)


def libpq_url(url: str, origin: str) -> str:
    """The URL as libpq reads it. Raises ConfigError for one that it would misread."""
    # SQLAlchemy users write postgresql+psycopg://; libpq knows only the plain scheme.
    plain, urls = re.subn(r"^postgres(?:ql)?(?:\+\w+)?://", "postgresql://", url)
    # Neither message shows the value: what cannot be read cannot be masked either.
    if not urls and (re.match(r"\w+:", url) or "=" not in url):
        raise ConfigError(f"the database URL ({origin}) is not one of Postgres; {URL_FORM}")
    if urls and _is_misread(plain.removeprefix("postgresql://")):
        raise ConfigError(f"the database URL ({origin}) cannot be read; {URL_FORM}")
    return plain


def _is_misread(rest: str) -> bool:
    """Whether libpq would take a part of an unescaped password for a host, port or path."""
    path = rest.partition("?")[0]
    authority, _, name = path.partition("/")
    hosts = re.sub(r"\[[^]]*\]", "", authority.rpartition("@")[2]).split(",")  # less IPv6
    return (
        authority.count("@") > 1
        or "@" in name
        or any(not re.fullmatch(r"[^:]*(:\d*)?", host) for host in hosts)
        or re.search(r"%(?![0-9A-Fa-f]{2})", rest) is not None
    )


def mask_password(url: str) -> str:
    """The URL or conninfo with its secrets replaced by ***, for people and logs."""
    scheme, mark, rest = url.partition("://")
    if mark and re.fullmatch(r"[\w+]+", scheme):
        if _is_misread(rest):
            return f"{scheme}://***"  # where the password ends, nobody can tell
        place, mark, query = rest.partition("?")
        place = re.sub(r"^([^:@]*:)[^@]*@", r"\1***@", place)
        return f"{scheme}://{place}{mark}{re.sub(r'([^&=]+)=([^&]*)', _masked_parameter, query)}"
    value = r"(?:'(?:[^'\\]|\\.)*'|(?:\\.|[^\s'\\])(?:\\.|[^\s\\])*)?"
    secret = rf"(?s)(\b(?:{'|'.join(_SECRETS)})\s*=\s*)"
    if re.fullmatch(rf"(?s)\s*(?:\w+\s*=\s*{value}\s*)*", url):
        return re.sub(secret + value, r"\1***", url)
    return re.sub(secret + ".*", r"\1***", url)


def _masked_parameter(found: re.Match[str]) -> str:
    # libpq decodes the name, too: p%61ssword is one.
    return f"{found[1]}=***" if unquote(found[1]).strip() in _SECRETS else found[0]
