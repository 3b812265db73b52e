"""What Asterisk, the gateway and a merchant's endpoint really send: the seeds from which the fuzzers start."""

from __future__ import annotations

import json

PAN = "6037991234567893"
PIN = "90817264"
SEQUENCE = "acd54b56ddd651a5cc3v"

PAID = {"status": 1, "data": {"refID": "123456"}, "errors": []}
DECLINED = {"status": 0, "data": {"refID": "0", "transactionStatus": "51"}, "errors": []}
BODIES = [
    PAID,
    PAID | {"status": "1"},
    PAID | {"data": [{"refID": "170059001234"}]},
    PAID | {"data": {"refID": "0"}},
    PAID | {"data": []},
    DECLINED,
    DECLINED | {"data": [{"refID": "0", "transactionStatus": "055"}]},
    DECLINED | {"data": {"refID": "0", "transactionStatus": "00"}},
    DECLINED | {"data": {"refID": "123456", "transactionStatus": "51"}},
    DECLINED | {"data": [], "errors": ["رمز نادرست است"]},
    DECLINED | {"errors": {"pan": [f"card {PAN} refused"], "pin": "۹۰۸۱۷۲۶۴", "sequence": SEQUENCE}},
    {"status": 1, "data": [], "errors": []},
    {"status": -9, "errors": ["validation"]},
    {"message": "The pan field is required."},
]

# (written, HTTP status, trouble, body): what `pay` and `otp-v2` may have come to
EXCHANGES = [
    *[(True, 200, "", json.dumps(body, ensure_ascii=False).encode()) for body in BODIES],
    *[(True, status, "", json.dumps(body).encode()) for status in (422, 500) for body in (PAID, DECLINED)],
    (True, 422, "", b'{"message": "The pan field is required."}'),
    (True, 403, "", b"<html>no</html>"),
    (True, 502, "", b"<html>bad gateway</html>"),
    (True, 302, "", b""),
    (True, 200, "", b'{"status": 1, "data": {"refID": "12'),
    (True, 200, "", b'{"status": 0, "status": 1, "data": {"refID": "123456"}}'),
    (True, 0, "timeout", None),
    (True, 403, "read-error", None),
    (False, 0, "connect-error", None),
]

ORDERS = [
    (200, {"status": "payable", "order_id": "A-17", "amount": 50000}),
    (200, {"status": "payable", "order_id": "سفارش ۱۷", "amount": 50000, "note": [1.5, None, True]}),
    (200, {"status": "payable", "order_id": "A-17", "amount": "50000"}),
    (200, {"status": "payable", "order_id": "A-17", "amount": 5e4}),
    (200, {"status": "paid"}),
    (200, {"status": "closed"}),
    (200, {"status": "not-found"}),
    (404, {"status": "paid"}),
    (404, {}),
    (500, {"status": "payable", "order_id": "A-17", "amount": 50000}),
]

# Between NUL bytes: how it is cut, then the values of Asterisk's environment that others can fill (targets.HOSTILE).
CALLS = [
    [b"", b"09123456789"],
    [b"", b"09123456789", "علی".encode(), b"700", b"02188776655"],
    [b"\x45\x81", b"x\nagi_arg_1: amount=90000", b"y"],
    [b"", b"x\nagi_callington: 1\n\n", b"y"],
    [b"\x50\x50\x50", b"x\nagi_arg_1: mobile=09120000000\n\n520-Invalid\n", b"y"],
    [b"\xc5", b"x", b"y", b"700\n\n200 result=0", b"unknown"],
    [b"", b"x", b"y\nagi_request: agi://h/pay?amount=90000", b"700"],
    [b"\x7f", b"x", b"y", b"700", b"u", b"pay", b"700", b"acc\nagi_arg_1: amount=90000\n\nHANGUP"],
    [b"", b"x", b"y", b"700", b"u", b"pay", b"700", b"", b"A-1\n\nagi_network: yes"],
    [b"", b"x", b"y", b"700", b"u", b"pay", b"700", b"", b"B%2017&mobile=09121234567"],
]

ENVIRONMENT = (
    b"agi_network: yes\nagi_network_script: pay?amount=50000&order_id=A-1\n"
    b"agi_request: agi://127.0.0.1:4573/pay?amount=50000&order_id=A-1\nagi_channel: PJSIP/trunk-00000001\n"
    b"agi_language: fa\nagi_type: PJSIP\nagi_uniqueid: 1732450000.1\nagi_version: 22.10.1\n"
    b"agi_callerid: 09123456789\nagi_calleridname: unknown\nagi_callingpres: 0\nagi_callingani2: 0\n"
    b"agi_callington: 0\nagi_callingtns: 0\nagi_dnid: 700\nagi_rdnis: unknown\nagi_context: pay\n"
    b"agi_extension: 700\nagi_priority: 3\nagi_enhanced: 0.0\nagi_accountcode: \nagi_threadid: 140211358779072\n\n"
)
# Between NUL bytes: whether the peer goes away in the end, then what it says, piece by piece.
PEERS = [
    [b"1", ENVIRONMENT, b"200 result=0\n", b"200 result=49 endpos=800\n", b"200 result=1234 (timeout)\n",
     b"200 result=0\n", b"200 result=1\n"],
    [b"1", ENVIRONMENT[:300], ENVIRONMENT[300:], b"100 Trying\n200 result=0\n", b"HANGUP\n200 result=-1\n", b"511 dead\n"],
    [b"0", ENVIRONMENT, b"520-Invalid command syntax.  Proper usage follows:\nUsage: ANSWER\n520 End of proper usage.\n"],
    [b"0", ENVIRONMENT, b"200 result=0\n", b"200 result=-1 endpos=0\n", b"200 result=6\n", b"200 result=\n", b"510 no\n"],
    [b"1", ENVIRONMENT, b"agi_arg_1: amount=5\n\n200 result=0\n", b"200 result=0 endpos=0\n"],
    [b"1", b"agi_calleridname: M\xfcller\n\n", b"200 result=0\r\n", b"HANGUP\n"],
    [b"1", b"GET / HTTP/1.1\r\n\r\n"],
    [b"0", ENVIRONMENT, b"200 result=0\n" * 200],
    [b"0", b"x" * 9000],
]  # fmt: skip

COMMANDS = [
    ["PAYSTATUS", "PAID", "1 2"],
    ["PAYORDERID", "سفارش ۱۷", "*#"],
    ["CHANNEL(language)", "fa", ""],
    ["X", 'a\\" "b', "5"],
    ["X", "a\nSET VARIABLE PAYSTATUS PAID", "\r\n"],
]

HTTP = [
    b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"status": 1, "data": {"refID": "123456"}, "e": 0}',
    b'HTTP/1.1 200 OK\r\n\r\n{"status": 1, "data": {"refID": "123456"}}',
    b'HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n{"status": 0, "data": {"refID": "0", "transactionStatus": "51"}}',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2a\r\n{"status": 1, "data": {"refID": "123456"}}\r\n0\r\n\r\n',
    b'HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n{"status": 1, "data": {"refID": "123456"}}',
    b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oops\r\n\r\n{"status": 1, "data": {"refID": "123456"}}',
    b'HTTP/1.1 500 Oops\r\nContent-Length: 42\r\n\r\n{"status": 1, "data": {"refID": "123456"}}',
    b'HTTP/1.1 422 No\r\nContent-Length: 60\r\n\r\n{"message": "no',
    b"HTTP/1.1 422 No\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 307 Gone\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 Nothing\r\n\r\n",
    b"<html>no HTTP</html>",
]

LISTS = [
    "شماره سفارش,مبلغ,شماره پیگیری,شماره کارت,تاریخ,وضعیت\nA-1,۵۰٬۰۰۰ ریال,123456,6037-99**-****-7893,1403/09/04 12:30,موفق\n".encode(),
    b"order_id;amount;ref;card\nA-1;50,000;1;6037991234567893\nA-2;7.5;2;1234\n\ntotal;57,500;;\n",
    "list of November\norder\tamount\tstatus\nA-1\t1000\tpaid\nA-2\t1000\tیافت نشد\n".encode("utf-16"),
    "شماره سفارش,مبلغ\nA-1,1000\n".encode("windows-1256"),
    b'order,amount\n"A-1,1000\n',
    b"order,amount,amount\nA-1,1,2\n",
    b"PK\x03\x04",
]
