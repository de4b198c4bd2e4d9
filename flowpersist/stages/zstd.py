"""zstd frames (RFC 8878), and the only module that uses the library: levels, threads, dictionaries, and bounds on the
cost of a hostile frame.

The level depends on the size; benchmarks/README.md has the measurements. Up to 128 KiB level 3 costs at most some
tenths of a millisecond and saves 1 to 8 %; above that time matters more, and level 1 takes a third less. From 4 MiB on
two threads share the work and finish in two thirds of the time if a second core is idle. Equal data gives equal bytes
on any number of cores.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Final
from weakref import WeakKeyDictionary

import zstandard
from attrs import field, frozen

from flowpersist.errors import CompressionError
from flowpersist.errors.arguments import check_instance, check_items, check_mapping, check_whole

__all__ = [
    "DICTIONARY_REACH",
    "DICTIONARY_SIZES",
    "PRIVATE_IDS",
    "Dictionaries",
    "Dictionary",
    "dictionary_id",
    "packed",
    "unpacked",
]

_THOROUGH: Final = 3
_FAST: Final = 1
#: The size up to which the thorough level pays off, and the size from which two threads do.
_THOROUGH_UP_TO: Final = 128 * 1024
_THREADED_FROM: Final = 4 * 1024 * 1024
#: Fixed instead of the number of cores: the bytes are the same for any number of threads, but not for none.
_THREADS: Final = 2
#: A dictionary helps at the beginning of a state; later the state itself serves as one.
DICTIONARY_REACH: Final = 64 * 1024
#: Other ids are reserved for public dictionaries (RFC 8878, 3.1.1.1.3).
PRIVATE_IDS: Final = range(2**15, 2**31)
#: The smallest size that the library makes; each process that uses a dictionary holds it in memory.
DICTIONARY_SIZES: Final = range(256, 2**20 + 1)
#: The largest zstd frame without content: header, dictionary id, one empty block, checksum.
_EMPTY_FRAME: Final = 18 + 3 + 4
#: Decompressors for windows up to this size are kept, since making one costs more than decompressing a small state.
_WINDOW: Final = 128 * 1024


# Compared by identity; its table for the library is made once and shared by all threads.
@frozen(eq=False)
class Dictionary:
    """A trained dictionary: bytes that small states of one kind have in common. It is as secret as the states.

    ``id`` is in each frame that was compressed with it, and in the dictionary's own bytes.
    """

    data: bytes = field(repr=False)
    id: int = field(init=False)
    _table: zstandard.ZstdCompressionDict = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        check_instance(self.data, "data", bytes, "bytes")
        try:
            table = zstandard.ZstdCompressionDict(self.data, dict_type=zstandard.DICT_TYPE_FULLDICT)
            table.precompute_compress(level=_THOROUGH)
        except zstandard.ZstdError as error:
            raise CompressionError("Invalid dictionary: expected a zstd dictionary; train one from states") from error
        object.__setattr__(self, "id", table.dict_id())
        object.__setattr__(self, "_table", table)

    @classmethod
    def train(cls, samples: Iterable[bytes], *, id: int, size: int = 64 * 1024) -> Dictionary:
        """Train a dictionary of at most ``size`` bytes; the same samples give the same one.

        ``CompressionError`` if there are too few samples, or too small ones.
        """
        check_whole(size, "size", least=DICTIONARY_SIZES.start, most=DICTIONARY_SIZES.stop - 1)
        check_whole(id, "id", least=PRIVATE_IDS.start, most=PRIVATE_IDS.stop - 1)
        check_items(samples, "samples", "an iterable of bytes")
        kept: list[bytes | bytearray | memoryview] = list(samples)
        for sample in kept:
            check_instance(sample, "samples", bytes, "an iterable of bytes")
        try:
            trained = zstandard.train_dictionary(size, kept, dict_id=id, level=_THOROUGH)
        except zstandard.ZstdError as error:
            message = "the samples are too few or too small to train a dictionary; take more states of one kind"
            raise CompressionError(message) from error
        return cls(trained.as_bytes())

    def compressor(self) -> zstandard.ZstdCompressor:
        """A compressor with it, for one thread."""
        return zstandard.ZstdCompressor(level=_THOROUGH, write_checksum=True, dict_data=self._table)

    def decompressor(self, window: int) -> zstandard.ZstdDecompressor:
        """A decompressor with it, for one thread."""
        return zstandard.ZstdDecompressor(max_window_size=window, dict_data=self._table)


@frozen
class Dictionaries:
    """The available dictionaries: ``current`` compresses (None: none is used), and all ``known`` ones decompress."""

    current: Dictionary | None = None
    known: Mapping[int, Dictionary] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        check_instance(self.current, "current", (Dictionary, type(None)), "a Dictionary or None")
        check_mapping(self.known, "known")

    def knowing(self, dictionary: Dictionary) -> Dictionaries:
        """Add one that decompresses."""
        check_instance(dictionary, "dictionary", Dictionary, "a Dictionary")
        return Dictionaries(self.current, {**self.known, dictionary.id: dictionary})

    def using(self, dictionary: Dictionary) -> Dictionaries:
        """Compress with this one."""
        return Dictionaries(dictionary, self.knowing(dictionary).known)


class _Kept(threading.local):
    """The codecs of one thread, since they are costly to make and can't be shared."""

    def __init__(self) -> None:
        self.thorough = zstandard.ZstdCompressor(level=_THOROUGH, write_checksum=True)
        self.fast = zstandard.ZstdCompressor(level=_FAST, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self.compressors: WeakKeyDictionary[Dictionary, zstandard.ZstdCompressor] = WeakKeyDictionary()
        self.decompressors: WeakKeyDictionary[Dictionary, zstandard.ZstdDecompressor] = WeakKeyDictionary()


_kept = _Kept()


def packed(data: bytes | memoryview, dictionary: Dictionary | None = None) -> bytes:
    """Compress into a frame that declares its content's size and has a checksum."""
    return _compressor(len(data), dictionary).compress(data)


def _compressor(size: int, dictionary: Dictionary | None) -> zstandard.ZstdCompressor:
    if dictionary is not None:
        known = _kept.compressors.get(dictionary)
        if known is None:
            known = _kept.compressors[dictionary] = dictionary.compressor()
        return known
    if size >= _THREADED_FROM:
        # Made for each call: its threads would not survive a fork, and idle ones would keep their buffers.
        return zstandard.ZstdCompressor(level=_FAST, write_checksum=True, threads=_THREADS)
    return _kept.thorough if size <= _THOROUGH_UP_TO else _kept.fast


def dictionary_id(data: memoryview) -> int | None:
    """The dictionary that a frame names, 0 for none; None if the data is not a frame."""
    try:
        return int(zstandard.get_frame_parameters(data).dict_id)
    except zstandard.ZstdError:
        return None


def unpacked(data: memoryview, length: int, dictionary: Dictionary | None = None) -> bytes | None:
    """Decompress what ``packed`` made, if it has this length; None if the frame is damaged or declares another length.

    The library allocates the size that a frame declares, so that is compared first.
    """
    try:
        if zstandard.frame_content_size(data) != length:
            return None
        if not length:
            return _unpacked_empty(data)
        return _decompressor(length, dictionary).decompress(data, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError, ValueError):
        return None


def _decompressor(length: int, dictionary: Dictionary | None) -> zstandard.ZstdDecompressor:
    if length > _WINDOW:
        window = 1 << (length - 1).bit_length()
        return (
            zstandard.ZstdDecompressor(max_window_size=window)
            if dictionary is None
            else dictionary.decompressor(window)
        )
    if dictionary is None:
        return _kept.decompressor
    known = _kept.decompressors.get(dictionary)
    if known is None:
        known = _kept.decompressors[dictionary] = dictionary.decompressor(_WINDOW)
    return known


def _unpacked_empty(data: memoryview) -> bytes | None:
    # The one-shot call trusts the header's size and ignores data behind it; skippable frames look empty too.
    if len(data) > _EMPTY_FRAME or data[:4] != zstandard.FRAME_HEADER:
        return None
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 10).decompressobj()
    plain = decompressor.decompress(data)
    return plain if decompressor.eof and not decompressor.unused_data else None
