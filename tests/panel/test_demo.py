"""`ivr-agi demo` at a terminal: the panel's address and a password that opens it, during the call and after it."""

import asyncio
import re

import httpx
from process import Terminal


async def test_the_demo_offers_the_panel():
    """Sign in with what is shown; hang up; the panel stays until Enter."""
    async with Terminal("demo") as terminal:
        await terminal.until(b"keys: 0-9")
        shown = terminal.shown.decode()
        address = re.search(r"http://127\.0\.0\.1:\d+/panel/", shown)[0]
        password = re.search(r"password (demo-\w+)", shown)[1]
        async with httpx.AsyncClient(base_url=address, trust_env=False, follow_redirects=True) as client:

            async def token():
                return re.search(r'name="csrf" value="(\w+)"', (await client.get("login")).text)[1]

            got = await client.post(
                "login", data={"csrf": await token(), "name": "demo", "password": password}
            )
            assert got.url.path == "/panel/charge"
            terminal.type("h")
            await terminal.until(b"Enter ends the demo")
            assert (await client.get("audit")).status_code == 200
            terminal.type("")
            async with asyncio.timeout(20):
                await terminal.process.wait()
    assert terminal.process.returncode == 1  # nothing was paid
