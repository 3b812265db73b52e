"""What the dialplans were told, against the journal: what the torture's audit, which has the ledger, leaves open."""

from ivr_agi.journal.tables import AttemptState as S

LET_GO = {"FAILED", "CANCELLED", "NOINPUT", "HANGUP", "OPERATOR"}


def disagreements(books, calls):
    """Sentences, one for each call whose PAYSTATUS is not what the journal says of its attempts."""
    for call in calls:
        row = books.attempts.get(int(call.variables.get("PAYID") or 0))
        if call.status and row is not None and not _agrees(books, call, row):
            states = " ".join(line["state"] for line in books.history[row["id"]])
            yield f"call {call.mobile} ({call.habit}) was told {call.variables}, its attempt went {states}"


def _agrees(books, call, row):
    ever = {line["state"] for line in books.history[row["id"]]}
    match call.status:
        case "PAID":
            return row["state"] == S.PAID
        case "UNKNOWN":
            return S.UNKNOWN in ever
        case "DECLINED":  # and maybe another card then, which came to nothing
            said = {each["code"] for each in books.of_call[call.mobile] if each["state"] == S.DECLINED}
            return call.variables["PAYCODE"] in said and row["state"] in (S.DECLINED, S.FAILED)
        case status if status in LET_GO:
            return row["state"] == S.FAILED
    return row["state"] in (S.DECLINED, S.FAILED)
