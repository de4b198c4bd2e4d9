"""Something done in the midst of SQLite's checkpoint, between its two looks at the log: where the WAL-reset bug lies.

There SQLite calls a method of its file (``xUnfetch``) if the log has changed since the connection looked last. The
method is replaced in the running process, for one connection. Where Python's SQLite is built in and no library of its
own there is no such way.
"""

import ctypes
import sqlite3
from contextlib import contextmanager
from pathlib import Path

FILE_POINTER = 7
NAMES = (
    *(
        "close",
        "read",
        "write",
        "truncate",
        "sync",
        "size",
        "lock",
        "unlock",
        "reserved",
        "control",
        "sector",
        "device",
    ),
    *("shm_map", "shm_lock", "shm_barrier", "shm_unmap", "fetch", "unfetch"),
)
UNFETCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)


class File(ctypes.Structure):
    _fields_ = (("methods", ctypes.c_void_p),)


class Methods(ctypes.Structure):
    _fields_ = (("version", ctypes.c_int), *((name, ctypes.c_void_p) for name in NAMES))


def library():
    """The SQLite that Python's module uses; None where it can't be had."""
    try:
        found = ctypes.CDLL("libsqlite3.so.0")
    except OSError:
        return None
    found.sqlite3_sourceid.restype = ctypes.c_char_p
    connection = sqlite3.connect(":memory:")
    (used,) = connection.execute("select sqlite_source_id()").fetchone()
    connection.close()
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    loaded = {line.split()[-1] for line in maps if "libsqlite3" in line}
    return found if found.sqlite3_sourceid().decode() == used and len(loaded) == 1 else None


@contextmanager
def in_the_window(connection, action):
    """Do something each time that a checkpoint of the connection is between its two looks."""
    database = ctypes.c_void_p.from_address(id(connection) + object.__basicsize__)
    file = ctypes.POINTER(File)()
    assert library().sqlite3_file_control(database, b"main", FILE_POINTER, ctypes.byref(file)) == 0
    own = file.contents.methods
    methods = Methods.from_buffer_copy(ctypes.string_at(own, ctypes.sizeof(Methods)))
    assert methods.version >= 3
    unfetch = UNFETCH(methods.unfetch)

    def instead(handle, offset, page):
        action()
        return unfetch(handle, offset, page)

    replaced = UNFETCH(instead)
    methods.unfetch = ctypes.cast(replaced, ctypes.c_void_p).value
    file.contents.methods = ctypes.addressof(methods)
    try:
        yield
    finally:
        file.contents.methods = own
