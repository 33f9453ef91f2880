"""Which database is meant, what is shown of it, and what is never shown."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tterec import config, settings_files, urls
from tterec.database.address import Address
from tterec.database.connection import Database
from tterec.errors import ConfigError

EVERYTHING = {
    "TTEREC_DATABASE_URL": "postgresql://one/a",
    "DATABASE_URL": "postgresql://two/b",
    "PGHOST": "three",
    "TTEREC_HOME": "/four",
}


def test_precedence_is_flag_own_variable_common_variable_libpq_embedded() -> None:
    environ = dict(EVERYTHING)
    flagged = config.database_target("postgresql://zero/z", environ)
    assert flagged == config.Target("postgresql://zero/z", "--database-url")
    found = []
    for name in EVERYTHING:
        target = config.database_target(None, environ)
        found.append((target.url, target.origin))
        del environ[name]
    assert found == [
        ("postgresql://one/a", "TTEREC_DATABASE_URL"),
        ("postgresql://two/b", "DATABASE_URL"),
        ("", "PGHOST"),
        (None, "default"),
    ]


def test_an_empty_variable_is_an_unset_one() -> None:
    empty = dict.fromkeys(EVERYTHING, "")
    assert config.database_target("", empty) == config.Target(None, "default")
    assert config.home(empty) == config.home({})


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"]
)
def test_every_usual_scheme_is_postgres(scheme: str) -> None:
    assert config.database_target(f"{scheme}://u@h/d", {}).url == "postgresql://u@h/d"


def test_a_conninfo_string_is_accepted() -> None:
    assert config.database_target("host=h dbname=d", {}).url == "host=h dbname=d"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@h/d",
        "u:secret@h/d",
        "mysql://u:secret@h/d?a=b",
        "postgresql://u:p@secret@h/d",
        "postgresql://u:p/secret@h/d",
        "postgresql://u:12/secret@h/d",
        "postgresql://u:secret?@h/d",
        "postgresql://u:secret%rd@h/d",
    ],
)
def test_a_url_that_libpq_would_misread_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.database_target(None, {"DATABASE_URL": url})
    message = str(caught.value)
    assert "secret" not in message
    assert "DATABASE_URL" in message
    assert "%40 for @" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql:///d",
        "postgresql://u:p@[::1]:5432/d",
        "postgresql://a:1,b:2/d?target_session_attrs=read-write",
        "postgresql://u@/d?host=/var/run/a@b",
        "postgresql://u:p%40ss%25@h:5432/d",
    ],
)
def test_a_url_that_libpq_reads_is_passed_on(url: str) -> None:
    assert config.database_target(url, {}).url == url
    conninfo_to_dict(url)


passwords = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=6)


@given(passwords)
def test_an_encoded_password_reaches_libpq_as_it_is_and_is_masked(password: str) -> None:
    url = f"postgresql://user:{quote(password, safe='')}@host:5432/name"
    target = config.database_target(url, {})
    assert target.url is not None
    assert conninfo_to_dict(target.url)["password"] == password
    assert urls.mask_password(target.url) == "postgresql://user:***@host:5432/name"


@given(passwords)
def test_a_conninfos_password_is_masked(password: str) -> None:
    masked = urls.mask_password(make_conninfo(host="h", password=password, dbname="d"))
    assert "password=***" in masked
    assert conninfo_to_dict(masked)["dbname"] == "d"


def test_passwords_among_a_urls_parameters_are_masked() -> None:
    masked = urls.mask_password("postgresql://h/d?password=one&sslpassword=two&user=u")
    assert masked == "postgresql://h/d?password=***&sslpassword=***&user=u"


SECRETS = ("password", "sslpassword", "oauth_client_secret")


@given(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1),
    st.sampled_from(SECRETS),
    st.booleans(),
)
def test_no_part_of_a_secret_parameter_is_shown(secret: str, name: str, disguised: bool) -> None:
    secret = f"<{secret}>"  # what no other part of the URL has
    written = "".join(f"%{ord(letter):02x}" for letter in name) if disguised else name
    for value in (quote(secret, safe=""), quote(secret, safe="@:/?=' ")):
        url = f"postgresql://h:5432/d?application_name=a&{written}={value}&connect_timeout=5"
        shown = urls.mask_password(url)
        assert shown in (
            f"postgresql://h:5432/d?application_name=a&{written}=***&connect_timeout=5",
            "postgresql://***",
        )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:pa?secret@h/d",
        "postgresql://u:pa/secret@h/d",
        "postgresql://u:pa?x&password=secret@h/d",
        "postgresql://h:5432/d?password=p@secret",
        "postgresql://u@h/d?p%61ssword=secret",
        "host=h password='p secret",
        "host=h password=p secret",
        "host=h password='p' secret=1 secret",
        "password = secret host=h",
        "host=h oauth_client_secret=secret",
        "dbname=d sslpassword='a\\'secret'",
    ],
)
def test_what_libpq_would_misread_shows_no_secret_either(url: str) -> None:
    assert "secret" not in urls.mask_password(url).replace("oauth_client_secret", "")


def test_every_parameter_that_libpq_calls_a_secret_is_masked() -> None:
    for option in pq.Conninfo.get_defaults():
        if option.dispchar == b"*" or option.keyword.endswith(b"_key"):
            name = option.keyword.decode()
            assert urls.mask_password(f"{name}=x") == f"{name}=***"
            assert not option.envvar or option.envvar.decode() in config.SECRET_VARIABLES


def test_what_holds_a_password_does_not_show_it_in_a_traceback() -> None:
    url = "postgresql://u:secret@h/d"
    for one in (
        config.Target(url, "DATABASE_URL"),
        Database(url),
        Address("127.0.0.1", 5432, "secret"),
    ):
        assert "secret" not in repr(one)
        assert "127.0.0.1" in repr(one) or "u:***@h" in repr(one)


def test_a_url_where_a_name_belongs_does_not_show_its_password() -> None:
    environ = {"PGDATABASE": "postgresql://u:secret@h/d", "PGHOST": "h"}
    assert "secret" not in repr(config.settings(None, environ))
    with pytest.raises(ConfigError, match="put the URL in DATABASE_URL"):
        config.database_target(None, environ)


def test_settings_mask_every_secret_and_name_every_origin() -> None:
    environ = {
        "TTEREC_DATABASE_URL": "postgresql://u:secret@h/d",
        "TTEREC_HOME": "/elsewhere",
        "PGPASSWORD": "secret",
        "PGHOST": "h",
    }
    shown = {setting.name: setting for setting in config.settings(None, environ)}
    assert "secret" not in repr(shown)
    assert shown["database"].value == "postgresql://u:***@h/d"
    assert shown["database"].origin == "TTEREC_DATABASE_URL"
    assert shown["home"] == config.Setting("home", str(Path("/elsewhere")), "TTEREC_HOME")
    assert shown["PGPASSWORD"].value == "***"
    assert shown["training.dim"] == config.Setting("training.dim", "64", "default")


def test_settings_are_shown_of_a_url_that_cannot_be_used_too() -> None:
    first = config.settings(None, {"DATABASE_URL": "mysql://u:secret@h"})[0]
    assert first.value.startswith("unusable: ")
    assert "secret" not in first.value


def test_the_home_is_absolute_and_a_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.home({"TTEREC_HOME": "here"}) == Path.cwd() / "here"
    assert config.home({"TTEREC_HOME": "~/there"}) == Path.home() / "there"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert Path.home() in config.home({}).parents
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config.home({}) == Path("/var/lib/tterec")


def test_a_home_of_nobody_is_refused_and_shown() -> None:
    environ = {"TTEREC_HOME": "~nobody-of-this-name/tterec"}
    with pytest.raises(ConfigError, match="TTEREC_HOME '~nobody-of-this-name/tterec'"):
        config.home(environ)
    shown = {setting.name: setting for setting in config.settings(None, environ)}
    assert shown["home"].value.startswith("unusable: ")


@pytest.mark.parametrize(
    "text",
    [
        f"learning_rate = 1{'0' * 400}",
        f"dim = {'9' * 5000}",
        f"dim = {'[' * 5000}{']' * 5000}",
    ],
)
def test_toml_that_python_cannot_hold_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"train\.toml"):
        settings_files.read_settings(path)


def test_toml_of_a_windows_editor_is_read_without_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text("dim = 32\n", encoding="utf-8-sig")
    assert settings_files.read_settings(path) == {"dim": 32}


def training_settings() -> st.SearchStrategy[dict[str, object]]:
    """Some settings of `tterec train`, with any value that each may have."""
    values: dict[str, st.SearchStrategy[object]] = {
        name: st.sampled_from(choices) for name, choices in config._CHOICES.items()
    }
    values["ranker"] = st.booleans()
    for name, (low, high) in config._RANGES.items():
        whole = isinstance(getattr(config.TrainingConfig(), name), int)
        values[name] = st.integers(int(low), int(high)) if whole else st.floats(low, high)
    return st.fixed_dictionaries({}, optional=values)


@given(training_settings())
def test_settings_written_as_toml_are_read_as_they_were(settings: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.toml"
        path.write_text(settings_files.settings_toml(settings), encoding="utf-8")
        assert settings_files.read_settings(path) == settings
        assert settings_files.training_config(path) == config.TrainingConfig(**settings)  # type: ignore[arg-type]
