"""Take the rules of gitleaks over as data: `python tools/secret_rules.py [VERSION]` (Go and the network).

The Go module proxy hands out the released module; `go` checks it against the checksum database. What is kept
of a rule is what is used of it. Rules are left out here, and only here, each for a reason.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

MODULE = "github.com/zricethezav/gitleaks/v8"
DATA = Path(__file__).parents[1] / "aegis_otel" / "redaction" / "data"

LEFT_OUT = {
    **dict.fromkeys(
        ("generic-api-key", "curl-auth-header", "curl-auth-user", "private-key", "jwt", "jwt-base64"),
        "read by structure in aegis_otel/redaction, with a bound",
    ),
    **dict.fromkeys(("hashicorp-tf-password", "kubernetes-secret-yaml"), "spans several lines"),
    "sourcegraph-access-token": "any 40 hex digits, which a commit is too",
    **dict.fromkeys(
        (
            *("adobe-client-id", "asana-client-id", "bitbucket-client-id", "discord-client-id"),
            *("linkedin-client-id", "looker-client-id", "plaid-client-id", "messagebird-client-id"),
            *("sendbird-access-id", "sumologic-access-id", "new-relic-user-api-id"),
        ),
        "an id, which is no secret",
    ),
    **dict.fromkeys(("flutterwave-public-key", "lob-pub-api-key", "mailgun-pub-key"), "a public key"),
}


def main() -> None:
    version = sys.argv[1] if len(sys.argv) > 1 else "latest"
    ran = subprocess.run(
        ["go", "mod", "download", "-json", f"{MODULE}@{version}"], check=True, capture_output=True, text=True
    )
    module = json.loads(ran.stdout)
    folder = Path(module["Dir"])
    with (folder / "config" / "gitleaks.toml").open("rb") as file:
        rules = tomllib.load(file)["rules"]
    kept = [reduced(rule) for rule in rules if rule["id"] not in LEFT_OUT and is_of_text(rule)]
    head = {
        "source": f"{MODULE}@{module['Version']}",
        "file": "config/gitleaks.toml",
        "sum": module["Sum"],
        "license": "MIT (LICENSE.gitleaks)",
        "rules": sorted(kept, key=lambda rule: str(rule["id"])),
    }
    (DATA / "gitleaks.json").write_text(
        json.dumps(head, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    shutil.copyfile(folder / "LICENSE", DATA / "LICENSE.gitleaks")
    (DATA / "LICENSE.gitleaks").chmod(0o644)
    print(f"{head['source']}: {len(kept)} of {len(rules)} rules")


def is_of_text(rule: dict[str, Any]) -> bool:
    """Whether a rule looks at text alone: some ask for the name of a file as well."""
    return "regex" in rule and "path" not in rule


def reduced(rule: dict[str, Any]) -> dict[str, Any]:
    found = {"id": rule["id"], "regex": rule["regex"]}
    if "entropy" in rule:
        found["entropy"] = rule["entropy"]
    if "secretGroup" in rule:
        found["group"] = rule["secretGroup"]
    allowed = [
        regex
        for allowlist in rule.get("allowlists", ())
        if allowlist.get("regexTarget", "secret") == "secret"
        for regex in allowlist.get("regexes", ())
    ]
    return {**found, "allowed": allowed} if allowed else found


if __name__ == "__main__":
    main()
