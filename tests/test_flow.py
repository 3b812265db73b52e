"""The call, from the caller's keys to the dialplan's variables and the merchant's journal."""

import asyncio
import re

import pytest
from line import CARD, open_line, sample_card, until

from ivr_agi import outcomes, prompts
from ivr_agi.simulator.channel import HANG_UP
from ivr_agi.simulator.gateway import Fault, Outcome, Rule

OTHER_CARD = sample_card("51", bank="610433")


def states(line):
    """The journal's states, oldest first."""
    return [attempt["state"] for attempt in line.attempts()]


# -- paid -------------------------------------------------------------------------------------------


async def test_paid(line):
    """1, card, PIN: two requests leave, the tracking number is read out, dialplan and journal are told."""
    ended = await line.call(line.buyer())
    (charge,) = line.gateway.charges
    assert ended.variables == {
        "PAYSTATUS": "PAID",
        "PAYREFID": charge.ref_id,
        "PAYCODE": "",
        "PAYREASON": "",
        "PAYORDERID": "A-1",
        "PAYAMOUNT": "50000",
        "PAYCARD": "603799******7893",
        "PAYID": "1",
    }
    assert line.services() == ["otp-v2", "pay"]
    assert (charge.order_id, charge.amount, charge.pan, charge.mobile) == (
        "A-1",
        50000,
        CARD,
        "+989123456789",
    )
    assert ended.heard == [
        "welcome",
        "amount-is",
        "numbers/50",
        "numbers/thousand",
        "rial",
        "confirm-amount",
        "enter-card",
        "please-wait",
        "enter-pin",
        "please-wait",
        "paid",
        "tracking-number",
        *prompts.reference(charge.ref_id),
        "repeat-reference",
        "goodbye",
    ]
    (attempt,) = line.attempts()
    assert (attempt["state"], attempt["ref_id"], attempt["card"]) == (
        "paid",
        charge.ref_id,
        "603799******7893",
    )


async def test_music_while_the_bank_is_asked(line):
    """Music plays while each request is out, and has stopped before the next question."""
    playing = []
    channel = await line.dial(line.buyer())
    line.gateway._on_sms = lambda _sms: playing.append(channel.music)
    await channel.run()
    wanted = [
        command for command in channel.commands if command.startswith("SET MUSIC") or "enter-pin" in command
    ]
    assert playing == [True]
    assert [command[:12] for command in wanted] == [
        "SET MUSIC ON",
        "SET MUSIC OF",
        'GET DATA "iv',
        "SET MUSIC ON",
        "SET MUSIC OF",
    ]


async def test_payid_is_told_before_anything_is_sent(line):
    """A call that is lost in the middle can be found in the journal: PAYID is set when the attempt begins."""
    seen = []
    channel = await line.dial(line.buyer())
    line.gateway._on_sms = lambda _sms: seen.append(dict(channel.variables))
    await channel.run()
    assert seen == [{"PAYID": "1"}]


async def test_each_answer_is_one_get_data(line):
    """Asterisk loses keys between two commands: confirmation, card and PIN take one GET DATA each."""
    ended = await line.call(line.buyer())
    asked = [command for command in ended.channel.commands if command.startswith("GET DATA")]
    assert [command.split('"')[1] for command in asked] == [
        "ivr-agi/confirm-amount",
        "ivr-agi/enter-card",
        "ivr-agi/enter-pin",
        "ivr-agi/repeat-reference",
    ]


async def test_tracking_number_again(line):
    """1 after the tracking number reads it once more."""
    ended = await line.call(line.buyer(repeat_reference="1"))
    assert ended.heard.count("tracking-number") == 2
    assert ended.status == "PAID"


async def test_english(line):
    """language=en: CHANNEL(language) is set before the first word."""
    ended = await line.call(line.buyer(), "amount=1250500&order_id=A-1&language=en")
    assert ended.channel.functions["CHANNEL(language)"] == "en"
    spoken = ["amount-is", *prompts.amount(1250500, "en")]
    assert ended.heard[1 : 1 + len(spoken)] == spoken


async def test_language_asked(line):
    """language=ask: 2 is English, from the next word on."""
    ended = await line.call(line.buyer(choose_language="2"), "amount=50000&order_id=A-1&language=ask")
    assert ended.channel.functions["CHANNEL(language)"] == "en"
    assert ended.heard[:2] == ["welcome", "choose-language"]
    assert ended.status == "PAID"


async def test_amount_said_in_tomans(tmp_path):
    """SPOKEN_UNIT=toman: 50000 rials are five thousand tomans to the caller, 50000 to bank and dialplan."""
    async with open_line(tmp_path, spoken_unit="toman") as line:
        ended = await line.call(line.buyer())
        assert ended.heard[1:5] == ["amount-is", "numbers/5", "numbers/thousand", "toman"]
        assert (ended.variables["PAYAMOUNT"], line.gateway.charges[0].amount) == ("50000", 50000)


@pytest.mark.parametrize("query", ["order_id=A-1", "amount=ask&order_id=A-1"])
async def test_amount_keyed_in(line, query):
    """Without an amount the caller keys it in, ended by `#`; it is read back before anything else."""
    ended = await line.call(line.buyer(enter_amount="1250500#"), query)
    assert ended.variables["PAYAMOUNT"] == "1250500"
    assert line.gateway.charges[0].amount == 1250500
    assert ended.heard[2 : 3 + len(prompts.amount(1250500, "fa"))] == [
        "amount-is",
        *prompts.amount(1250500, "fa"),
    ]


async def test_order_id_made(line):
    """Without an order id one is made, unique, and told to dialplan and gateway."""
    first = await line.call(line.buyer(), "amount=50000")
    second = await line.call(line.buyer(), "amount=50000")
    orders = [call.variables["PAYORDERID"] for call in (first, second)]
    assert [charge.order_id for charge in line.gateway.charges] == orders
    assert len(set(orders)) == 2
    assert all(re.fullmatch(r"IVR\d{8}-\d{6}-[A-Z2-9]{8}", order) for order in orders)


async def test_arguments_of_agi(line):
    """AGI(agi://…/pay,amount=…,order_id=…) says the same as the address."""
    ended = await line.call(line.buyer(), "", arguments=["amount=70000", "order_id=B 2", "language=en"])
    assert (ended.variables["PAYAMOUNT"], ended.variables["PAYORDERID"]) == ("70000", "B 2")


# -- the mobile number ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "caller_id",
    ["09123456789", "9123456789", "989123456789", "+989123456789", "00989123456789", "2109123456789"],
)
async def test_mobile_from_the_caller_id(line, caller_id):
    """Each form in which trunks deliver a mobile number becomes `merchant_cid`."""
    await line.call(line.buyer(), caller_id=caller_id)
    assert line.gateway.charges[0].mobile == "+989123456789"


@pytest.mark.parametrize("caller_id", ["", "unknown", "anonymous", "02188888888", "+14155550100", 'x" y'])
async def test_mobile_keyed_in(line, caller_id):
    """Withheld, a landline, foreign or garbage: the caller is asked."""
    ended = await line.call(line.buyer(enter_mobile="09351112233"), caller_id=caller_id)
    assert line.gateway.charges[0].mobile == "+989351112233"
    assert "enter-mobile" in ended.heard


async def test_mobile_from_the_dialplan(line):
    """mobile=… stands in place of the caller ID."""
    await line.call(line.buyer(), "amount=50000&order_id=A&mobile=+989351112233")
    assert line.gateway.charges[0].mobile == "+989351112233"


# -- what the dialplan asks for is wrong ------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("amount=0", "bad-amount"),
        ("amount=-5", "bad-amount"),
        ("amount=5000.5", "bad-amount"),
        ("amount=۵۰۰۰", "bad-amount"),
        ("amount=", "bad-amount"),
        ("amount=99999999999999", "bad-amount"),
        ("amount=1e5", "bad-amount"),
        ("amount=50000&order_id=", "bad-order-id"),
        ("amount=50000&order_id=" + "x" * 51, "bad-order-id"),
        ("amount=50000&order_id=a%0Ab", "bad-order-id"),
        (f"amount=50000&order_id={CARD}", "bad-order-id"),  # it would be written down, and told to everybody
        ("amount=50000&order_id=No%206037-9912-3456-7893", "bad-order-id"),
        ("amount=50000&language=de", "bad-language"),
        ("amount=50000&mobile=02188888888", "bad-mobile"),
        ("amount=50000&price=1", "unknown-argument"),
        ("amount=50000&amount=1000", "duplicate-argument"),
        ("amount", "unknown-argument"),
        ("amount=%ff", "bad-encoding"),
    ],
)
async def test_bad_request(line, query, reason):
    """Refused, the reason told, "out of order" heard, nothing sent and nothing asked."""
    ended = await line.call(line.buyer(), query)
    assert (ended.status, ended.reason) == ("REFUSED", reason)
    assert ended.heard == ["out-of-order", "goodbye"]
    assert not line.gateway.requests
    assert not line.attempts()


async def test_duplicate_over_address_and_arguments(line):
    """The same key in the address and among the arguments is refused, not guessed at."""
    ended = await line.call(line.buyer(), "amount=50000", arguments=["amount=1000"])
    assert (ended.status, ended.reason) == ("REFUSED", "duplicate-argument")


@pytest.mark.parametrize("arguments", [["amount=50000", "order_id=A-1"], []])
async def test_forged_end_of_the_environment(line, arguments):
    """A caller ID with a blank line ends the environment early, with arguments of his own: refused."""
    forged = "0912\nagi_arg_1: amount=1000\nagi_arg_2: order_id=A-1\n"
    ended = await line.call(line.buyer(), "", caller_id=forged, arguments=arguments)
    assert (ended.status, ended.reason) == ("REFUSED", "bad-environment")
    assert not line.gateway.requests


async def test_order_id_that_is_not_utf8(line):
    """Bytes that are no UTF-8 are refused: two orders could look like one."""
    ended = await line.call(line.buyer(), "amount=50000", arguments=["order_id=A\udce9"])
    assert (ended.status, ended.reason) == ("REFUSED", "bad-encoding")


async def test_forged_environment(line):
    """A caller ID with a newline that forges an argument changes no payment: refused."""
    ended = await line.call(line.buyer(), caller_id="0912\nagi_arg_1: amount=1000")
    assert (ended.status, ended.reason) == ("REFUSED", "bad-environment")
    assert not line.gateway.requests


# -- the caller's answers ---------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "status"), [("2", "CANCELLED"), ("0", "OPERATOR")])
async def test_not_now(line, key, status):
    """2 cancels, 0 asks for a person; nothing is sent."""
    ended = await line.call({"confirm-amount": key})
    assert ended.status == status
    assert not line.gateway.requests
    assert ("goodbye" in ended.heard) is (status == "CANCELLED")


@pytest.mark.parametrize(
    "question", ["confirm-amount", "enter-card", "enter-pin", "enter-amount", "enter-mobile"]
)
async def test_nothing_keyed(line, question):
    """Three silences at a question: its own word for it, more help with it, then an end."""
    query = "order_id=A-1" if question == "enter-amount" else "amount=50000&order_id=A-1"
    script = line.buyer(enter_amount="50000#") | {question: ""}
    ended = await line.call(script, query, caller_id="" if question == "enter-mobile" else "09123456789")
    assert (ended.status, ended.reason) == ("NOINPUT", "no-input")
    kind = {"confirm-amount": "choice"}.get(question, question.removeprefix("enter-"))
    start = ended.heard.index(question)
    assert ended.heard[start:] == [
        question,
        f"no-{kind}",
        f"help-{kind}",
        question,
        f"no-{kind}",
        f"help-{kind}",
        question,
        f"no-{kind}",
        "gave-up",
        "goodbye",
    ]
    assert "pay" not in line.services()
    assert set(states(line)) <= {"failed"}


async def test_silent_here_and_there(tmp_path):
    """A caller who keys nothing once or twice at each question is let go at the ninth time."""
    silences = {
        "enter-amount": ["", "", "50000#"],
        "confirm-amount": ["", "", "1"],
        "enter-mobile": ["", "", "09123456789"],
    }
    async with open_line(tmp_path, max_unanswered=8) as line:
        script = line.buyer(enter_card=["", CARD], enter_pin=["", line.pin()]) | silences
        ended = await line.call(script, "order_id=A-1", caller_id="")
        assert (ended.status, ended.reason) == ("NOINPUT", "no-input")
        assert ended.heard[-3:] == ["no-pin", "gave-up", "goodbye"]
        ended = await line.call(script | {"enter-pin": line.pin()}, "order_id=A-2", caller_id="")
        assert ended.status == "PAID"


@pytest.mark.parametrize(
    ("question", "wrong"),
    [
        ("confirm-amount", "9"),
        ("enter-card", "6037991234567890"),  # Luhn
        ("enter-card", "4111111111111111"),  # no Iranian bank
        ("enter-card", "60379912345#"),
        ("enter-pin", "1234#"),
        ("enter-pin", "1234567890123#"),
        ("enter-amount", "999#"),
        ("enter-amount", "0050000#"),
        ("enter-mobile", "02188888888"),
    ],
)
async def test_wrong_answer_then_a_right_one(line, question, wrong):
    """A wrong answer has its own word; the right one after it goes on."""
    query = "order_id=A-1" if question == "enter-amount" else "amount=50000&order_id=A-1"
    script = line.buyer(enter_amount="50000#", enter_mobile="09123456789")
    right = script[question][0] if isinstance(script[question], list) else script[question]
    ended = await line.call(
        script | {question: [wrong, right]},
        query,
        caller_id="" if question == "enter-mobile" else "09123456789",
    )
    kind = {"confirm-amount": "choice"}.get(question, question.removeprefix("enter-"))
    assert f"invalid-{kind}" in ended.heard
    assert ended.status == "PAID"


@pytest.mark.parametrize("card", ["6037990000000000", "1" * 16, "6037991234567890"])
async def test_bad_card_is_never_sent(line, card):
    """A card that fails Luhn or has no bank leaves nobody's line."""
    ended = await line.call(line.buyer(enter_card=[card, ...]))
    assert ended.status == "NOINPUT"
    assert not line.gateway.requests


async def test_stray_hash_is_no_try(line):
    """`#` after the sixteenth digit, or out of habit: no try is counted, however often."""
    ended = await line.call(
        line.buyer(confirm_amount=["#", "#", "#", "1"], enter_card=CARD + "#", enter_pin=["#", line.pin()])
    )
    assert ended.status == "PAID"
    assert not [name for name in ended.heard if name.startswith(("no-", "invalid-"))]


@pytest.mark.parametrize(
    "keys",
    ["6037*" + CARD, "6037991234*" + CARD, "*" + CARD, "60*37*" + CARD, ["6037*", CARD], ["6037*#", CARD]],
)
async def test_star_starts_over(line, keys):
    """`*` in the middle of the card number: what came before it counts no more, and no try is lost."""
    ended = await line.call(line.buyer(enter_card=keys))
    assert ended.status == "PAID"
    assert "invalid-card" not in ended.heard


async def test_key_into_a_prompt_is_the_first_of_the_answer(line):
    """A caller who keys into the help in front of the question loses no digit."""
    script = line.buyer(enter_card=["1111111111111111", "1111111111111111"]) | {"help-card": CARD}
    ended = await line.call(script)
    assert ended.status == "PAID"
    assert ended.variables["PAYCARD"] == "603799******7893"


async def test_one_digit_too_many(line):
    """A seventeenth digit, right after the sixteenth, is not the first of the next answer."""
    script = line.buyer(enter_card=["1111111111111111", CARD]) | {"invalid-card": "1"}
    channel = await line.dial(script)
    channel._handset._keeps_keys = False  # as Asterisk: keys during a clip that none may interrupt are lost
    assert (await channel.run())["PAYSTATUS"] == "PAID"


async def test_double_press_confirms_nothing(line):
    """1 pressed twice at the language, or `#` twice after the amount: the amount is still read out, and asked."""
    script = line.buyer(choose_language="1", enter_amount="50000#") | {"amount-is": "1#"}
    channel = await line.dial(script, "order_id=A-1&language=ask")
    channel._handset._keeps_keys = False
    await channel.run()
    heard = [sound.removeprefix("ivr-agi/") for sound in channel.heard]
    assert heard[3:8] == ["amount-is", "numbers/50", "numbers/thousand", "rial", "confirm-amount"]


async def test_one_into_the_amount_pays(line):
    """1 while the amount is read out is the answer; the rest of it is not played."""
    ended = await line.call(line.buyer(confirm_amount="") | {"numbers/50": "1"})
    assert ended.status == "PAID"
    assert "confirm-amount" not in ended.heard


async def test_pin_keeps_its_leading_zeros(line):
    """00123 is not 123."""
    line.gateway.rules.append(Rule(Outcome(code="51"), service="pay"))
    await line.call(line.buyer(enter_pin="00123#", enter_card=[CARD]))
    assert line.gateway.requests[1].body["pin"] == "00123"


async def test_pin_without_hash(line):
    """A PIN that is not ended by `#` counts when the caller falls silent."""
    ended = await line.call(line.buyer(enter_pin=[lambda: line.gateway.pin_for(CARD)]))
    assert ended.status == "PAID"


# -- one-time PINs ----------------------------------------------------------------------------------


async def test_new_pin(line):
    """`*#` has a new PIN sent; the old one is void, the new one pays."""
    ended = await line.call(line.buyer(enter_pin=["*#", line.pin()]))
    assert ended.status == "PAID"
    assert line.services() == ["otp-v2", "otp-v2", "pay"]
    assert line.attempts()[0]["pins_sent"] == 2


async def test_new_pins_have_a_cap(tmp_path):
    """No more SMS than the cap, however often `*#` is keyed; the last PIN still pays."""
    async with open_line(tmp_path, max_pins=2) as line:
        ended = await line.call(line.buyer(enter_pin=["*#", "*#", line.pin()]))
        assert ended.status == "PAID"
        assert "no-more-pins" in ended.heard
        assert line.services() == ["otp-v2", "otp-v2", "pay"]


async def test_new_pins_without_end(tmp_path):
    """A caller who keys nothing but `*#` comes to an end."""
    async with open_line(tmp_path, max_pins=2) as line:
        ended = await line.call(line.buyer(enter_pin=["*#", ...]))
        assert ended.status == "NOINPUT"
        assert line.services() == ["otp-v2", "otp-v2"]


async def test_new_pin_cools_down(tmp_path):
    """Two PINs are as far apart as the setting says; the wait passes with music."""
    async with open_line(tmp_path, otp_cooldown=0.4) as line:
        await line.call(line.buyer(enter_pin=["*#", line.pin()]))
        first, second, _pay = line.gateway.requests
        assert (second.at - first.at).total_seconds() >= 0.4


async def test_hang_up_during_the_cool_down(tmp_path):
    """A caller who leaves while he waits for a new PIN costs no SMS."""
    async with open_line(tmp_path, otp_cooldown=30) as line:
        channel = await line.dial(line.buyer(enter_pin=["*#", line.pin()]))
        running = asyncio.create_task(channel.run())
        await until(lambda: channel.heard.count("ivr-agi/please-wait") == 2)
        channel.hang_up()
        variables = await running
        assert variables["PAYSTATUS"] == "HANGUP"
        assert line.services() == ["otp-v2"]


@pytest.mark.parametrize(
    "outcome", [Outcome(code="14"), Outcome(status=502, body=b"x"), Outcome(fault=Fault.RESET_AFTER_READ)]
)
async def test_pin_not_sent_then_sent(line, outcome):
    """The PIN could not be sent: 1 tries again, and the payment goes on."""
    line.gateway.rules.append(Rule(outcome, service="otp-v2", times=1))
    ended = await line.call(line.buyer(otp_failed="1"))
    assert ended.status == "PAID"
    assert line.services() == ["otp-v2", "otp-v2", "pay"]


async def test_pin_not_sent_other_card(line):
    """The PIN could not be sent: 2 takes another card, and the first attempt lets go of the order."""
    line.gateway.rules.append(Rule(Outcome(code="14"), service="otp-v2", times=1))
    ended = await line.call(line.buyer(otp_failed="2", enter_card=[OTHER_CARD, CARD]))
    assert ended.status == "PAID"
    assert states(line) == ["failed", "paid"]


async def test_pin_never_sent(line):
    """The PIN cannot be sent and the caller does not try on: failed, certainly not charged."""
    line.gateway.rules.append(Rule(Outcome(code="14"), service="otp-v2"))
    ended = await line.call(line.buyer())
    assert (ended.status, ended.reason) == ("FAILED", "pin-not-sent")
    assert states(line) == ["failed"]
    assert line.services() == ["otp-v2"]


async def test_pin_never_sent_again_and_again(tmp_path):
    """Trying on has the same cap as every other PIN."""
    async with open_line(tmp_path, max_pins=3) as line:
        line.gateway.rules.append(Rule(Outcome(code="14"), service="otp-v2"))
        ended = await line.call(line.buyer(otp_failed=["1", ...]))
        assert ended.status == "FAILED"
        assert line.services() == ["otp-v2"] * 3


# -- the bank says no -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(outcomes.DECLINES, key=int))
async def test_each_code(line, code):
    """Each of the 20 codes: DECLINED, its PAYCODE, its own prompt, one `pay`, and the next step of the table."""
    card = sample_card(code)
    ended = await line.call(line.buyer(card, enter_card=[card], enter_pin=[line.pin(card)]))
    assert (ended.status, ended.variables["PAYCODE"]) == ("DECLINED", code)
    assert [name for name in ended.heard if name.startswith("error-")] == [f"error-{code}"]
    assert line.services().count("pay") == 1
    after = ended.heard[ended.heard.index(f"error-{code}") + 1 :]
    match outcomes.decline(code).next:
        case outcomes.Next.END:
            assert after == ["goodbye"]
        case outcomes.Next.NEW_CARD:
            assert after[:2] == ["another-card", "enter-card"]
        case outcomes.Next.NEW_PIN:
            assert after[:2] == ["please-wait", "enter-pin"]
    assert line.attempts()[0]["state"] == "declined"
    assert line.attempts()[0]["code"] == code


async def test_code_that_is_not_in_the_table(line):
    """An unknown code: the general sentence, and the code digit by digit."""
    line.gateway.rules.append(Rule(Outcome(code="907"), service="pay"))
    ended = await line.call(line.buyer())
    assert (ended.status, ended.variables["PAYCODE"]) == ("DECLINED", "907")
    assert ended.heard[-6:] == ["error-other", "code-is", "numbers/9", "numbers/0", "numbers/7", "goodbye"]
    assert line.attempts()[0]["review"] == "check"


async def test_no_code_at_all(line):
    """Status 0 without a code: declined, the general sentence."""
    line.gateway.rules.append(
        Rule(Outcome(body=b'{"status": 0, "data": [], "errors": ["x"]}'), service="pay")
    )
    ended = await line.call(line.buyer())
    assert (ended.status, ended.variables["PAYCODE"]) == ("DECLINED", "")
    assert ended.heard[-2:] == ["error-other", "goodbye"]


async def test_wrong_pin_then_paid(line):
    """55: a new PIN is sent in the same call, and pays; two attempts stand in the journal."""
    ended = await line.call(line.buyer(enter_pin=["00000#", line.pin()]))
    assert ended.status == "PAID"
    assert line.services() == ["otp-v2", "pay", "otp-v2", "pay"]
    assert states(line) == ["declined", "paid"]
    assert len(line.gateway.charges) == 1
    assert ended.variables["PAYID"] == "2"


async def test_wrong_pins_have_a_cap(tmp_path):
    """Wrong PINs end the call at the cap: DECLINED with 55, and why."""
    async with open_line(tmp_path, max_payments=2) as line:
        ended = await line.call(line.buyer(enter_pin=["00000#", ...]))
        assert (ended.status, ended.variables["PAYCODE"], ended.reason) == ("DECLINED", "55", "too-many-pins")
        assert line.services().count("pay") == 2


async def test_another_card_then_paid(line):
    """51: another card in the same call pays."""
    poor = sample_card("51")
    ended = await line.call(line.buyer(enter_card=[poor, CARD], enter_pin=[line.pin(poor), line.pin(CARD)]))
    assert ended.status == "PAID"
    assert ended.variables["PAYCARD"] == "603799******7893"
    assert states(line) == ["declined", "paid"]
    paid = ended.heard.index("paid")
    assert ended.heard[paid + 1 : paid + 7] == [  # which of the two it was
        "card-is",
        *("numbers/7", "numbers/8", "numbers/9", "numbers/3"),
        "tracking-number",
    ]


async def test_cards_have_a_cap(line):
    """Card after card is declined: the third is the last, and the dialplan knows why."""
    poor = sample_card("51")
    ended = await line.call(line.buyer(poor, enter_card=[poor, ...]))
    assert (ended.status, ended.variables["PAYCODE"], ended.reason) == ("DECLINED", "51", "too-many-cards")
    assert line.services().count("pay") == 3
    assert ended.heard[-3:] == ["error-51", "too-many-cards", "goodbye"]


@pytest.mark.parametrize(("last", "reason"), [("", "no-input"), (HANG_UP, "hangup")])
async def test_leaving_after_a_decline(line, last, reason):
    """Whoever leaves after a decline was declined: that is what the dialplan is told."""
    poor = sample_card("51")
    ended = await line.call(line.buyer(poor, enter_card=[poor, last]))
    assert (ended.status, ended.variables["PAYCODE"], ended.reason) == ("DECLINED", "51", reason)


@pytest.mark.parametrize("code", ["20", "94"])
async def test_maybe_charged_holds_the_order(line, code):
    """20 and 94 may have been charged: DECLINED, but the order is not to be paid again before a person looks."""
    card = sample_card(code)
    ended = await line.call(line.buyer(card))
    assert ended.status == "DECLINED"
    again = await line.call(line.buyer())
    assert (again.status, again.reason) == ("REFUSED", "under-review")
    assert line.services().count("pay") == 1


# -- in doubt, and failed ---------------------------------------------------------------------------

IN_DOUBT = {
    "timeout": Outcome(fault=Fault.SILENCE, charge=True),
    "reset": Outcome(fault=Fault.RESET_AFTER_READ, charge=True),
    "closed": Outcome(fault=Fault.CLOSE_AFTER_READ, charge=True),
    "cut headers": Outcome(fault=Fault.CUT_HEADERS, charge=True),
    "cut body": Outcome(fault=Fault.CUT_BODY, charge=True),
    "redirect": Outcome(fault=Fault.REDIRECT),
    "html": Outcome(body=b"<html></html>", content_type="text/html", charge=True),
    "500": Outcome(status=500, body=b"", charge=True),
    "409": Outcome(status=409, body=b"", charge=True),
    "cut json": Outcome(body=b'{"status": 1, "data": {"refID', charge=True),
    "wrong types": Outcome(body=b'{"status": true, "data": {"refID": "1"}}', charge=True),
    "no refID": Outcome(body=b'{"status": 1, "data": {}}', charge=True),
    "status 2": Outcome(body=b'{"status": 2, "data": {"refID": "1"}}'),
}


@pytest.mark.parametrize("doubt", IN_DOUBT)
async def test_unknown(tmp_path, doubt):
    """UNKNOWN, one POST, a reference to quote, no promise about money, and no second payment for that order."""
    async with open_line(tmp_path, pay_timeout=0.3) as line:
        line.gateway.rules.append(Rule(IN_DOUBT[doubt], service="pay", times=1))
        ended = await line.call(line.buyer())
        assert ended.status == "UNKNOWN"
        assert ended.reason
        assert ended.heard[-4:] == ["unknown", "reference-is", "numbers/1", "goodbye"]
        assert states(line) == ["unknown"]
        again = await line.call(line.buyer())
        assert (again.status, again.reason) == ("REFUSED", "under-review")
        assert again.heard[-2:] == ["under-review", "goodbye"]
        assert line.services() == ["otp-v2", "pay"]
        assert line.attempts()[0]["review"] == "charged"


async def test_gateway_gone_before_pay(line):
    """No connection for `pay`: FAILED, certainly not charged, and the order may be paid again."""
    port = int(line.gateway.url.split(":")[2].split("/")[0])
    url = line.gateway.url

    async def take_down():
        pin = line.gateway.pin_for(CARD)
        await line.gateway.stop()
        return pin + "#"

    ended = await line.call(line.buyer(enter_pin=[take_down]))
    assert (ended.status, ended.reason) == ("FAILED", "connect-error")
    assert ended.heard[-2:] == ["failed", "goodbye"]
    assert states(line) == ["failed"]
    await line.gateway.start(port=port)
    assert line.gateway.url == url
    again = await line.call(line.buyer())
    assert again.status == "PAID"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 429])
async def test_refused_over_http(line, status):
    """The gateway refuses the request itself: FAILED, and PAYREASON says with what."""
    line.gateway.rules.append(Rule(Outcome(status=status, body=b""), service="pay"))
    ended = await line.call(line.buyer())
    assert (ended.status, ended.reason) == ("FAILED", f"http-{status}")


async def test_contradiction_is_unknown(line):
    """Status 0 with a tracking number, or with "approved" for a code: unknown, and the order stays held."""
    body = b'{"status": 0, "data": {"refID": "123456", "transactionStatus": "51"}, "errors": []}'
    line.gateway.rules.append(Rule(Outcome(body=body, charge=True), service="pay", times=1))
    assert (await line.call(line.buyer())).status == "UNKNOWN"
    assert (await line.call(line.buyer())).reason == "under-review"
    assert len(line.gateway.charges) == 1


async def test_outcome_whose_words_cannot_be_stored(line):
    """Half a character in the gateway's words does not keep the outcome from the journal."""
    body = b'{"status": 0, "data": {"transactionStatus": "5"}, "errors": ["\\ud800\\u0000\\u001b[2J"]}'
    line.gateway.rules.append(Rule(Outcome(body=body), service="pay"))
    ended = await line.call(line.buyer())
    assert (ended.status, ended.variables["PAYCODE"]) == ("DECLINED", "5")
    assert states(line) == ["declined"]
    _, steps = line.journal.attempt(1)
    assert all(step["note"].isprintable() for step in steps)


async def test_paid_twice(line):
    """An order that is paid is not paid again: refused before anything is asked."""
    await line.call(line.buyer())
    again = await line.call(line.buyer())
    assert (again.status, again.reason) == ("REFUSED", "already-paid")
    assert again.heard == ["welcome", "already-paid", "goodbye"]
    assert len(line.gateway.charges) == 1


async def test_thirty_calls_for_one_order(line):
    """Thirty callers at once for one order: one `pay`, one charge, 29 refused."""
    barrier = asyncio.Barrier(30)

    async def card_in_step():
        await barrier.wait()
        return CARD

    calls = await asyncio.gather(*(line.call(line.buyer(enter_card=[card_in_step])) for _ in range(30)))
    assert sorted(call.status for call in calls) == ["PAID"] + ["REFUSED"] * 29
    assert {call.reason for call in calls if call.status == "REFUSED"} <= {"order-busy", "already-paid"}
    assert line.services().count("pay") == 1
    assert len(line.gateway.charges) == 1


# -- hanging up -------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["welcome", "amount-is", "confirm-amount", "enter-card", "enter-pin"])
@pytest.mark.parametrize("sighup", [True, False])
async def test_hang_up_before_pay(line, where, sighup):
    """Whoever leaves before `pay` is charged nothing; HANGUP, also with AGISIGHUP=no; the order is free again."""
    ended = await line.call(line.buyer() | {where: HANG_UP}, sighup=sighup)
    assert (ended.status, ended.reason) == ("HANGUP", "hangup")
    assert "pay" not in line.services()
    assert set(states(line)) <= {"failed"}
    again = await line.call(line.buyer())
    assert again.status == "PAID"


async def test_hang_up_at_the_second_please_wait(line):
    """The last moment before `pay`: nothing is sent."""
    ended = await line.call(line.buyer() | {"please-wait": ["", HANG_UP]})
    assert ended.status == "HANGUP"
    assert line.services() == ["otp-v2"]


async def test_hang_up_while_sent_is_written(line, monkeypatch):
    """Hung up after `sent` is on disk, before the request leaves: HANGUP, and nothing leaves."""
    written, go_on = asyncio.Event(), asyncio.Event()
    step = line.journal.step

    async def slow_step(attempt_id, state, *args, **fields):
        await step(attempt_id, state, *args, **fields)
        if state == "sent":
            written.set()
            await go_on.wait()

    monkeypatch.setattr(line.journal, "step", slow_step)
    channel = await line.dial(line.buyer())
    running = asyncio.create_task(channel.run())
    await written.wait()
    channel.hang_up()
    await until(next(iter(line.server._connections.values())).hung_up.is_set)
    go_on.set()
    variables = await running
    assert (variables["PAYSTATUS"], variables["PAYREASON"]) == ("HANGUP", "hangup")
    assert line.services() == ["otp-v2"]
    assert states(line) == ["failed"]


async def test_hang_up_during_otp(line):
    """Hung up while `otp-v2` is out: HANGUP, nothing charged, the attempt closed."""
    answer = asyncio.Event()
    line.gateway.rules.append(Rule(Outcome(wait=answer), service="otp-v2"))
    channel = await line.dial(line.buyer())
    running = asyncio.create_task(channel.run())
    await until(lambda: line.gateway.requests)
    channel.hang_up()
    answer.set()
    variables = await running
    assert variables["PAYSTATUS"] == "HANGUP"
    assert line.services() == ["otp-v2"]
    assert states(line) == ["failed"]


@pytest.mark.parametrize(("code", "status", "state"), [("", "PAID", "paid"), ("51", "DECLINED", "declined")])
@pytest.mark.parametrize("sighup", [True, False])
async def test_hang_up_during_pay(line, code, status, state, sighup):
    """Hung up while `pay` is out: carried through, recorded, and told to the dialplan."""
    answer = asyncio.Event()
    line.gateway.rules.append(Rule(Outcome(code=code, wait=answer), service="pay"))
    channel = await line.dial(line.buyer(), sighup=sighup)
    running = asyncio.create_task(channel.run())
    await line.gateway.arrived.wait()
    channel.hang_up()
    answer.set()
    variables = await running
    assert variables["PAYSTATUS"] == status
    assert states(line) == [state]
    assert len(line.gateway.charges) == (status == "PAID")


async def test_line_lost_during_pay(line):
    """The connection to Asterisk breaks while `pay` is out: the journal still gets the outcome."""
    answer = asyncio.Event()
    line.gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    channel = await line.dial(line.buyer())
    running = asyncio.create_task(channel.run())
    await line.gateway.arrived.wait()
    running.cancel()
    channel._writer.transport.abort()
    answer.set()
    await until(lambda: states(line) == ["paid"])
    assert len(line.gateway.charges) == 1


async def test_hang_up_in_the_middle_of_the_result(line):
    """Hung up while the tracking number is read: the dialplan was told before."""
    ended = await line.call(line.buyer() | {"paid": HANG_UP})
    assert ended.status == "PAID"


# -- what is not there ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "missing", ["welcome", "enter-card", "confirm-amount", "numbers/50", "paid", "silence"]
)
async def test_missing_sound(line, missing, logged):
    """A sound that Asterisk lacks is named in the log, and the call goes on."""
    script = line.buyer() | {"beep": ["1"] if missing == "confirm-amount" else [CARD]}
    ended = await line.call(script, missing={f"ivr-agi/{missing}"})
    assert ended.status == "PAID"
    if missing != "silence":
        assert missing in [entry["sound"] for entry in logged if entry["event"] == "sound.missing"]


async def test_no_sound_at_all(line):
    """Not one sound file: the call ends as failed, and nobody is charged."""

    class Nothing:
        def __contains__(self, _name):
            return True

    ended = await line.call(line.buyer(), missing=Nothing())
    assert (ended.status, ended.reason) == ("FAILED", "out-of-order")
    assert not line.gateway.requests
