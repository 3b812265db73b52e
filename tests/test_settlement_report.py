"""A reconciliation in words: what a person reads, and the commands he copies."""

from settling import NOON, OTHER_CARD, attempt, section

from ivr_agi.settlement import report
from ivr_agi.settlement.judging import DAY
from ivr_agi.settlement.matching import match
from ivr_agi.settlement.reading import read


def told(content, *attempts, name="list.csv"):
    """The summary of a list against these attempts."""
    listing = read(content.encode())
    return report.summary(match(listing.lines, attempts), listing, name)


HEAD = "order,amount,ref,card,date,status\n"


def test_never_wider_than_a_page():
    """The longest order, tracking number, status and file name there can be: at most 100 columns, all there."""
    order, ref = "W" * 50, "9" * 64
    content = f"{HEAD}{order},1000,{ref},7894,1403/09/04,موفق\n{order}x,1e5,,,,{'بد' * 30}\n"
    output = told(content, attempt(1, order, "unknown"), name=f"{'لیست ' * 40}.csv")
    assert max(map(len, output.splitlines())) <= 100
    assert f"order {order}," in output
    assert f"tracking no. {ref}," in output


def test_edges_are_named():
    """What may be in the list before or after is named, and is nothing to look at."""
    early = attempt(7, "B", "paid", ref="8", at=NOON - DAY)
    output = told(f"{HEAD}A,1000,77,7893,1403/09/04,paid\n", attempt(1, "A", "paid"), early)
    assert "Attempts of an edge day, and not in this list: 7. " in output
    assert output.endswith("Nothing to look at.\n")


def test_doubts_are_told():
    """A doubtful one says why, and its command leaves out nothing that the list has."""
    output = told(
        f"{HEAD}A,1000,77,,1403/09/04,paid\n",
        attempt(1, "A", "declined"),
        attempt(2, "A", "unknown"),
    )
    said = section(output, "UNKNOWN PAID")
    assert "  in doubt:\n  ! the line may as well be attempt 1 (declined)\n" in said
    assert "resolve 2 --as paid --ref 77 --by NAME --evidence 'list.csv line 2'" in said
    assert "certain\n" not in said


def test_several_declined_ones():
    """Of several attempts that a line contradicts, those that fit get the command, the others are shown."""
    output = told(
        f"{HEAD}A,1000,77,7893,1403/09/04,paid\n",
        *(attempt(number, "A", "declined") for number in (1, 2)),
        attempt(3, "A", "declined", card=OTHER_CARD),
    )
    said = section(output, "CONTRADICTED")
    assert "! attempts 1, 2 may each be it: resolve one of them" in said
    assert [number for number in (1, 2, 3) if f"resolve {number} --as paid --ref 77" in said] == [1, 2]
    assert "journal show 3\n" in said


def test_paid_there_and_under_way_here():
    """A payment that the list has and no process has settled: a server is stuck, or gone."""
    said = section(told(f"{HEAD}A,1000,77,7893,1403/09/04,paid\n", attempt(4, "A", "sent")), "UNDER WAY")
    assert "! line 2 says paid" in said
    assert "journal show 4\n" in said


def test_blanks_that_only_a_person_can_fill():
    """A command copied without thinking is refused: whose word it is, is left empty."""
    said = section(
        told(f"{HEAD}B,1000,78,7893,1403/09/04,paid\n", attempt(3, "A", "unknown")), "UNKNOWN MISSING"
    )
    assert "resolve 3 --as not-paid --by NAME --evidence ''\n" in said


def test_nothing_moves_the_cursor():
    """What a terminal would obey, in a file's name or an old order id, is not printed."""
    output = told(
        f"{HEAD}B,1000,78,7893,1403/09/04,paid\n", attempt(3, "A\x1b[2J", "unknown"), name="a\x1b]0;x.csv"
    )
    assert "\x1b" not in output
