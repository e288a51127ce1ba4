"""Every place that has to do with a kind of object storage asks the table: a new kind is one row in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis_otel.audit.location import address, locate
from aegis_otel.audit.maintenance.object_store import reaching
from aegis_otel.config import storage_schemes
from aegis_otel.config.storage_schemes import STORAGE_SCHEMES, StorageScheme, examples, reads_variable
from aegis_otel.errors import ConfigError

PACKAGE = Path(storage_schemes.__file__).parents[1]
GOOGLE = StorageScheme(scheme="gs", bucket="[a-z0-9][a-z0-9._-]+", least_chars=3, variables="GOOGLE_")
URL = "gs://our-bucket/agents"


@pytest.fixture
def _google(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that no release has."""
    monkeypatch.setattr(storage_schemes, "STORAGE_SCHEMES", (*STORAGE_SCHEMES, GOOGLE))
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")  # there is no account


@pytest.mark.usefixtures("_google")
def test_a_row_is_all_that_a_scheme_takes(tmp_path: Path) -> None:
    """Its addresses are taken, shown, named and opened, and its variables go to who sends."""
    assert address(f"{URL}/") == URL
    assert locate(URL) == tmp_path / "aegis_audit-our-bucket-agents"
    assert examples("`") == "`s3://bucket/prefix` or `gs://bucket/prefix`"
    with reaching(URL) as store:
        assert type(store).__name__ == "GCSStore"
    names = ("GOOGLE_APPLICATION_CREDENTIALS", "https_proxy", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY")
    assert [reads_variable(URL, name) for name in names] == [True, True, False, False]
    assert [reads_variable("s3://bucket", name) for name in names] == [False, True, True, False]


@pytest.mark.usefixtures("_google")
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("gs://b/p", "a bucket's name has at least 3 characters"),
        ("gs://OUR/p", "expected a directory, or `s3://bucket/prefix` or `gs://bucket/prefix`"),
        ("az://our/p", "expected a directory, or `s3://bucket/prefix` or `gs://bucket/prefix`"),
    ],
)
def test_other_addresses_are_refused(name: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        address(name)
    assert str(refused.value) == f"an audit cannot be at `{name}`: {fault}"


def test_nothing_else_names_a_scheme() -> None:
    """Neither a scheme nor what its variables begin with is spelled in another module."""
    spelled = [word for row in STORAGE_SCHEMES for word in (f"{row.scheme}://", f'"{row.variables}')]
    found = {
        (path.relative_to(PACKAGE).as_posix(), word)
        for path in PACKAGE.rglob("*.py")
        for word in spelled
        if word in path.read_text(encoding="utf-8")
    }
    assert found == {("config/storage_schemes.py", '"AWS_')}
