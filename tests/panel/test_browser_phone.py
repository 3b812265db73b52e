"""The phone in the browser: a whole trial call, with its sound, its keys and its text message."""

import re

import pytest
from line import until
from panel.browser import PHONE

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Played sixteen times as fast; but the question for the card as it is, so that there is time to cut in.
QUICKLY = """
const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () {
  this.playbackRate = this.src.includes("enter-card") ? 1 : 16;
  return play.call(this);
};
"""
BEFORE_THE_CARD = [
    "welcome",
    "amount-is",
    "numbers/50",
    "numbers/thousand",
    "rial",
    "confirm-amount",
    "enter-card",
]


class Overheard:
    """What a page asks of the trial line: sounds, by name, and files said to have been played to their end."""

    def __init__(self, page):
        self.sounds = []
        self.played = []
        page.on("request", self._asked)

    def _asked(self, request):
        if found := re.search(r"/phone/sounds/\w+/(.+)\.wav$", request.url):
            self.sounds.append(found[1])
        elif request.url.endswith("/played"):
            self.played.append(int(request.post_data.removeprefix("seq=")))


async def test_a_trial_call(shop):
    """Call, 1, a card keyed into the question for it, the PIN of the text message: paid, and nothing real was touched."""
    sara = await shop.person("sara", size=PHONE, fresh=True)
    await sara.context.add_init_script(QUICKLY)
    heard = Overheard(sara.page)
    await sara.open("/phone")
    await sara.button("phone.call").click()
    await until(lambda: "confirm-amount" in heard.sounds)
    keypad = sara.page.get_by_role("group", name=sara.say("phone.keypad"))
    await keypad.get_by_role("button", name="۱", exact=True).click()
    await until(lambda: "enter-card" in heard.sounds)
    played = list(heard.played)
    await sara.page.get_by_role("button", name=sara.say("phone.key_in")).first.click()
    message = sara.page.locator("#phone-log .notice-info")
    pin = re.search(r"\d{5,8}", await message.inner_text())[0]
    await until(lambda: "enter-pin" in heard.sounds)
    await keypad.focus()
    await sara.page.keyboard.type(f"{pin}#")
    await sara.page.get_by_role("row", name="PAYSTATUS").get_by_text("PAID", exact=True).wait_for()
    assert heard.sounds[: len(BEFORE_THE_CARD) + 1] == ["silence", *BEFORE_THE_CARD]
    assert "paid" in heard.sounds
    assert len(heard.played) > len(played)
    shown = await sara.page.locator("#phone").inner_text()
    assert pin not in shown.replace(await message.inner_text(), "")
    assert shop.gateway.requests == []
    assert shop.line.attempts() == []
