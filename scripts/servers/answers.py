"""Whether a test server answers in its own protocol: ``answers.py NAME PORT``. It needs no driver."""

from __future__ import annotations

import re
import socket
import struct
import sys


def _startup() -> bytes:
    """PostgreSQL's first message. A server that is ready asks for the password, one that is starting sends an error."""
    body = struct.pack("!i", 3 << 16) + b"user\0flowpersist\0database\0flowpersist\0\0"
    return struct.pack("!i", len(body) + 4) + body


def _is_master() -> bytes:
    """The oldest question of MongoDB's protocol, which every server of it answers."""
    document = b"\x10isMaster\0" + struct.pack("<i", 1) + b"\0"
    document = struct.pack("<i", len(document) + 4) + document
    query = struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + document
    return struct.pack("<iiii", 16 + len(query), 1, 0, 2004) + query


#: Bolt's preamble and the versions that we could speak, 5.0 to 5.8 and 4.4; the server answers with the one it takes.
#: Bolt's preamble and versions that we could speak, 5.0 to 5.8 and 4.4; the server answers with the one that it takes.
_BOLT = b"\x60\x60\xb0\x17" + struct.pack("!4i", 0x00080805, 0x00000404, 0, 0)
_PRIMARY = re.compile(rb".*ismaster\0\x01", re.DOTALL)

#: What is said, and how the answer begins of a server that takes writes.
DIALOGUES = {
    "postgres": (_startup(), re.compile(rb"R")),
    "redis": (b"PING\r\n", re.compile(rb"\+PONG")),
    "redis_durable": (b"PING\r\n", re.compile(rb"\+PONG")),
    "redis_cluster": (b"CLUSTER INFO\r\n", re.compile(rb".*cluster_state:ok", re.DOTALL)),
    # Two zeros, the minor version and the major one.
    "neo4j": (_BOLT, re.compile(rb"\0\0[\x00-\x08][\x04\x05]")),
    "mongodb": (_is_master(), _PRIMARY),
    "ferretdb": (_is_master(), _PRIMARY),
}


def answers(name: str, port: int) -> bool:
    """Whether the server says within two seconds what one of its kind says when it is ready."""
    said, wanted = DIALOGUES[name]
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(said)
            told = connection.recv(4096)
    except OSError:
        return False
    return wanted.match(told) is not None


if __name__ == "__main__":
    sys.exit(not answers(sys.argv[1], int(sys.argv[2])))
