"""Check the journal: the chain of every writer, also through files that are sealed, and carried files."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from aegis_otel.audit.findings import Proof
from aegis_otel.audit.journal.files import chain_before, is_text, numbered, without_newer
from aegis_otel.audit.location import JOURNAL, audit_errors
from aegis_otel.audit.record import decode
from aegis_otel.audit.seals.hash_chain import journal_origin, without_chain
from aegis_otel.audit.seals.seal_log import CARRIED_FILE
from aegis_otel.audit.verify.seals import Ledger

_DRAFT = re.compile(r"\..*\.(new|draft)")


def check_journal(proof: Proof, ledger: Ledger) -> None:
    """Check every file of the journal and add the findings to the proof.

    Raises:
        AuditError: a file cannot be read.
    """
    writers: dict[str, dict[int, str]] = {}
    for name in _names(proof) | ledger.covered.keys() | ledger.carried.keys():
        place = f"{JOURNAL}/{name}"
        if not name.endswith(".jsonl") or not is_text(name):
            proof.note_other(place, is_draft=bool(_DRAFT.fullmatch(name)))
        elif match := CARRIED_FILE.fullmatch(name):
            _check_carried(proof, ledger, name, match[2])
        elif file := numbered(name):
            writers.setdefault(file[0], {})[file[1]] = name
        else:
            proof.found(place, "does not belong to the audit: it is not named as a journal file is")
    for writer, files in sorted(writers.items()):
        _check_writer(proof, ledger, writer, files)
    if proof.journals:
        proof.unproven.append(
            "that no line was cut off at the end of a journal file, and no writer's last files were removed: "
            f"{proof.lines} lines in {proof.journals} files are not sealed yet (`aegis audit seal`); nor "
            "that an agent wrote them: anybody who can write to the directory could have"
        )


def _check_writer(proof: Proof, ledger: Ledger, writer: str, files: dict[int, str]) -> None:
    """Follow the chain of a writer through its files; where a sealed file is gone, its seal has the end."""
    sealed = {number: ledger.covered[name].chain for number, name in files.items() if name in ledger.covered}
    chain = origin = journal_origin(proof.audit, writer)
    ends: dict[int, str] = {}
    before, last = "the beginning of its writer", 0
    for number, name in sorted(files.items()):
        file = f"{JOURNAL}/{name}"
        covered = ledger.covered.get(name)
        gap = ""
        if number > last + 1:
            gap = f"there is no file {last + 1}" + ("" if number == last + 2 else f" to {number - 1}")
            before += f" ({gap} of its writer)"
        follows = chain_before(number, origin, sealed.get, ends.get)
        end, lines, is_intact = _follow(proof, file, follows or chain, before)
        if lines is None and covered is None:
            continue
        if covered is None:
            proof.journals += 1
            proof.lines += lines or 0
            if number < max(sealed, default=0):
                proof.found(file, "is not sealed, and a later file of its writer is: it was brought here")
            elif gap and is_intact:
                proof.found(file, f"{gap} of its writer, and no seal says that there was")
        elif lines is not None and is_intact and (lines, end) != (covered.lines, covered.chain):
            proof.found(file, f"has {lines} lines, and its seal covers {covered.lines} that end otherwise")
        chain = end if covered is None else covered.chain
        if follows is not None:
            ends[number] = chain
        before, last = f"`{name}`", number


def _follow(proof: Proof, file: str, chain: str, before: str) -> tuple[str, int | None, bool]:
    """Return the chain value after a file, its number of lines, and whether each follows the one before it.

    The number is None where there is no such file.
    """
    count, is_intact = 0, True
    if not os.path.lexists(proof.directory / file):
        return chain, None, is_intact
    for line in proof.chained(file, chain, before):
        chain = line.chain
        count += 1
        is_intact = is_intact and line.intact
        if line.intact:
            try:
                decode(without_chain(line.content))
            except ValueError as error:
                proof.found(file, f"is no record ({error})", line.number, line.byte)
    return chain, count, is_intact


def _check_carried(proof: Proof, ledger: Ledger, name: str, tag: str) -> None:
    """Check a file of lines whose calls had not ended when they were sealed."""
    file = f"{JOURNAL}/{name}"
    digest = proof.digest(file)
    if name not in ledger.carried:
        if tag != ledger.tag:
            proof.found(file, "belongs to no seal")
        elif digest is not None:
            proof.unfinished.append(file)
        return
    stated, is_believed = ledger.carried[name]
    if digest is None:
        if name not in ledger.covered:
            proof.found(file, f"is missing, with {stated.lines} lines of calls that had not ended")
    elif is_believed and digest[1] != stated.sha256:
        proof.found(
            file, f"was changed: its {digest[0]} bytes are not the {stated.lines} lines that were sealed"
        )


def _names(proof: Proof) -> set[str]:
    journal = proof.directory / JOURNAL
    with audit_errors("read the audit at", journal), suppress(FileNotFoundError):
        if not journal.is_symlink():
            before = os.listdir(journal)
            return without_newer(os.listdir(journal), before)
        proof.found(JOURNAL, "is a link, not a directory of the audit")
    return set()
