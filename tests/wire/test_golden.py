"""The bytes of every message, as version 3 of the protocol froze them.

A failure here means that old and new daemons no longer understand each other: give the new
shape a new message number, or raise the protocol's version.
"""

import msgpack
import pytest

from twisted_dist.access.credential import Credential, fingerprint
from twisted_dist.wire import data_messages as d
from twisted_dist.wire import schema

D = b"\x01" * 4
#: follows from its key, bit for bit: members of a network know each other by it
CERTIFICATE = Credential("worker", bytes(range(32))).certificate

GOLDEN = {
    "welcome": ((7, {"scheduler": "h:1"}), "93010781a97363686564756c6572a3683a31"),
    "keys": (({CERTIFICATE: "worker"},), "920281c5011a" + CERTIFICATE.hex() + "a6776f726b6572"),
    "peers": ((3, 1), "93060301"),
    "arrived": ((300,), "9203cd012c"),
    "resumed": ((300,), "9204cd012c"),
    "bye": (("so", False), "9305a2736fc2"),
    "results-claimed": (([1], [2], [9]), "943c910191029109"),
    "tasks-claimed": (([1], [2], [1]), "943d910191029101"),
    "all-claimed": ((), "913e"),
    "function": ((D, "f", b"p"), "940ac40401010101a166c40170"),
    "submit": (
        (1, [D], [0], [b"c"], [[2]], ["k"], True, [0], {"retries": 3}),
        "9a0b0191c40401010101910091c4016391910291a16bc3910081a77265747269657303",
    ),
    "release": (([1, 2],), "920c920102"),
    "cancel": (([1],), "920d9101"),
    "locate": ((5, [1]), "930e059101"),
    "scattered": (([1], [9], 7), "940f9101910907"),
    "ask": (
        (5, "acquire", "lock", b"", [1], 1, 2.5),
        "981205a761637175697265a46c6f636bc400910101cb4004000000000000",
    ),
    "runaways": (([1],), "92119101"),
    "query": ((5, "info", None), "941005a4696e666fc0"),
    "finished": (([1], [9], [None]), "94149101910991c0"),
    "erred": (([1], ["k"], [b""], ["t"]), "9515910191a16b91c40091a174"),
    "located": ((5, [["h:1", [1]]], [[7, 1]]), "9416059192a3683a31910191920701"),
    "answer": ((5, "", 1), "941705a001"),
    "give-function": ((D, "f", b"p"), "941ec40401010101a166c40170"),
    "tasks": (
        ([[D, [1], [1], [b"c"], [[2]], True]], [["h:1", [2]]]),
        "931f9196c404010101019101910191c40163919102c39192a3683a319102",
    ),
    "forget": (([1], [2]), "932091019102"),
    "drop": (([1],), "92219101"),
    "restart": ((), "9122"),
    "leave": ((), "911c"),
    "copy": (([["h:1", [1]]],), "92239192a3683a319101"),
    "uploads": (
        ([3], ["a.py"], [D], [9]),
        "9526910391a4612e707991c404010101019109",
    ),
    "upload-piece": ((3, 0, b"p"), "94270300c40170"),
    "upload-wanted": ((3, 7), "93340307"),
    "uploaded": ((3, "no"), "933503a26e6f"),
    "relay": ((b"t", "a"), "931dc40174a161"),
    "errand": ((7, b"p"), "931a07c40170"),
    "stop-errands": (([7],), "921b9107"),
    "errand-done": (
        (7, "raised", 9, b"e", "t"),
        "963707a6726169736564 09c40165a174".replace(" ", ""),
    ),
    "pass": ((5, b"t", ""), "942405c40174a0"),
    "done": (([1], [1], [9], [300], [b"v"]), "962891019101910991cd012c91c40176"),
    "failed": (([1], [1], [b"e"], ["t"]), "95299101910191c4016591a174"),
    "returned": (([1], [1]), "932a91019101"),
    "output": (([1, 0], [1, 2], ["a", "b"], 5), "95339201009201 0292a161a16205".replace(" ", "")),
    "stop": (([1], [1]), "932591019101"),
    "stopped": (([1], [1], ["t"]), "943291019101 91a174".replace(" ", "")),
    "killed": (([1], [1], ["t"]), "942b9101910191a174"),
    "missing": (([1], [1], [2], ["h:1"], False), "962c91019101910291a3683a31c2"),
    "put": (([1],), "92319101"),
    "copies": (([1],), "922d9101"),
    "seceded": (([1], [1], True), "942f91019101c3"),
    "pass-wanted": ((5, 1, 2), "9430050102"),
    "retire": ((300.0, True), "9336cb4072c00000000000c3"),
    "heartbeat": (({"rss": 1},), "922e81a372737301"),
}


def test_every_message_is_here():
    """`schema.BY_NUMBER` and the table above name the same messages."""
    assert {each.name for each in schema.BY_NUMBER.values()} == set(GOLDEN)


@pytest.mark.parametrize("message", schema.BY_NUMBER.values(), ids=lambda each: each.name)
def test_bytes(message):
    """`Message.pack` gives the frozen bytes; `decode` reads them."""
    values, golden = GOLDEN[message.name]
    assert message.pack(*values).hex() == golden
    number, fields = schema.decode(bytes.fromhex(golden), (message.number,))
    assert number == message.number
    assert tuple(fields.values()) == values


def test_a_certificate_follows_from_its_key():
    """`Credential.certificate` is the same for the same seed, on every version of everything."""
    assert fingerprint(CERTIFICATE) == "6176212f9640"


TAG = b"td-seg" + b"\x02" * 10
PLACE = [5, 64, TAG, [3, 300]]
PLACED = "940540c410" + TAG.hex() + "9203cd012c"
#: data connections: the message and its bytes; a sum is that of `header_sum`
DATA = {
    "get": ([d.GET, 7, [1, 2]], "930107920102"),
    "got": (
        [d.GOT, 7, [1, 2], [b"v", [b"p", b"b"]], True],
        "950207920102 92c4017692c40170c40162 c3",
    ),
    "put": ([d.PUT, 7, [1], [b"v"], False], "950307910191c40176c2"),
    "stored": ([d.STORED, 7, 5], "93040705"),
    "not read": ([d.STORED, 7, d.NOT_READ], "930407ff"),
    "host": ([d.HOST, 300, PLACE, True], "9405cd012c" + PLACED + "c3"),
    "host that cannot share": ([d.HOST, 300, None, False], "9405cd012cc0c2"),
    "reads": ([d.READS, 0, True], "930600c3"),
    "taken": ([d.TAKEN, 7], "920707"),
    "got placed": ([d.GOT_PLACED, 7, [1], [PLACE]], "94080791 0191" + PLACED),
    "got stream": ([d.GOT_STREAM, 7, 1, [3, 300], 0x3E7F6C5F], "950907019203cd012cce3e7f6c5f"),
    "put placed": ([d.PUT_PLACED, 7, [1], [PLACE]], "940a0791 0191" + PLACED),
    "put stream": ([d.PUT_STREAM, 7, 1, [3, 300], 0x3E7F6C5F], "950b07019203cd012cce3e7f6c5f"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_bytes(name):
    """Messages of data connections have the frozen bytes, and are understood as they were."""
    message, golden = DATA[name]
    assert msgpack.packb(message, use_bin_type=True).hex() == golden.replace(" ", "")
    assert d.checked(bytes.fromhex(golden)) == message


def test_every_data_message_is_here():
    """The table above has every number of `data_messages`."""
    assert {message[0] for message, _ in DATA.values()} == {*d._FIELDS, d.HOST}


def test_sums():
    """`header_sum` is frozen: both ends compute it."""
    assert d.header_sum(1, [3, 300]) == 0x3E7F6C5F
    assert d.header_sum(1 << 40, [0]) == 0x5E8E18CE
