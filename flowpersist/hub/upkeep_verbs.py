"""The verbs of ``Maintenance`` that walk over all that is stored: checks before an upgrade, scrubbing, exports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from flowpersist.backends.base import StorageBackend, check_text
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import (
    check_callable,
    check_flag,
    check_instance,
    check_items,
    check_optional,
    check_whole,
)
from flowpersist.hub.copying import Copied, copy
from flowpersist.hub.export_file import Exported
from flowpersist.hub.exporting import export
from flowpersist.hub.importing import Imported, import_file
from flowpersist.hub.outcome import Outcome, as_outcome
from flowpersist.hub.restoring import accept_restored
from flowpersist.hub.scrubbing import Finding, Verification, verify
from flowpersist.hub.upgrade_check import RunChecks, UpgradeCheck, check_upgrade
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.keys.suspension_key import SuspensionId

__all__ = ["UpkeepVerbs"]


class UpkeepVerbs:
    """The part of ``Maintenance`` that reads, checks and moves what is stored."""

    _hub: PersistenceHub

    async def check_upgrade(
        self, runner: RunChecks | None = None, documents: Iterable[Any] = (), *, most: int = 1000
    ) -> Outcome[UpgradeCheck]:
        """Decode everything that is stored with the classes of this process, and say what would break; nothing is
        written, and nothing is run.

        - ``runner``: a ``FlowRunner``: open runs are also held against its tools.
        - ``documents``: what open runs would be resumed with, each of the flow of its name: its migrations are applied
          to copies of their states. They take a runner.
        - ``most``: of breaks that differ, so many are listed.

        Memory is bounded by a page: some 16 MiB of stored bodies, or the largest one.
        """
        check_instance(runner, "runner", (RunChecks, type(None)), "a FlowRunner or None")
        check_items(documents, "documents", "documents")
        check_whole(most, "most")
        return as_outcome(await check_upgrade(self._hub, runner, tuple(documents), most=most))

    async def verify(
        self,
        *,
        read_data: bool = True,
        repair: bool = False,
        most: int = 1000,
        tell: Callable[[Finding], object] | None = None,
    ) -> Outcome[Verification]:
        """Read every record, and hold it against its seal: checksums, attributes, due times, index entries, what it
        names and what it belongs to. Nothing is written unless ``repair`` is set.

        - ``read_data``: bodies are read and opened too; else heads alone.
        - ``repair``: attributes, due times and index entries are written again by the sealed head, what no suspension
          has is removed, and so is what crashes have left. What is damaged stays as it is.
        - ``most``: so many findings are in the result; all are counted.
        - ``tell``: is given each finding as it comes.
        """
        for name, flag in (("read_data", read_data), ("repair", repair)):
            check_flag(flag, name)
        check_whole(most, "most", least=0)
        check_optional(tell, "tell", check_callable)
        return as_outcome(await verify(self._hub, read_data=read_data, repair=repair, most=most, tell=tell))

    async def accept_restored(self, suspension: SuspensionId | None = None) -> Outcome[int]:
        """Accept what stands in the store, where the replay ledger refuses it with ``RollbackDetected``: after a backup
        was restored knowingly. Gives how many were accepted. Work that was done since the backup may be done again.

        - ``suspension``: the id of the one suspension; None: all.

        The ledger is not lowered: each is written again at a position of its own, so a state that followed the backup
        is still refused.
        """
        check_instance(suspension, "suspension", (SuspensionId, type(None)), "a SuspensionId")
        key = None if suspension is None else str(suspension)
        return as_outcome(await accept_restored(self._hub.suspensions.records, key))

    async def export(
        self, path: str | PathLike[str], *, suspension: SuspensionId | None = None, tenant: str | None = None
    ) -> Outcome[Exported]:
        """Write one suspension, or all suspensions and values of a tenant, to a file, sealed as they are.

        - ``path``: the file; it has its name once it is whole, and only its owner can read it. One that is there is
          replaced.
        - ``suspension``: the id of the one suspension.
        - ``tenant``: whose suspensions and stores.

        It takes no state subkey. Dictionaries that states may need are written too.
        """
        check_instance(path, "path", (str, PathLike), "a path")
        check_optional(tenant, "tenant", check_text)
        if (suspension is None) == (tenant is None):
            raise ConfigurationError("Missing suspension or tenant: pass one of them", "suspension")
        check_instance(suspension, "suspension", (SuspensionId, type(None)), "a SuspensionId")
        return as_outcome(await export(self._hub, Path(path), suspension, tenant))

    async def import_(
        self, path: str | PathLike[str], *, replace: bool = False, dry_run: bool = False
    ) -> Outcome[Imported]:
        """Put the records of an exported file into this store, each suspension with all that belongs to it or not at
        all. Repeated after a crash it goes on.

        - ``path``: the file.
        - ``replace``: records of the store that are older than those of the file are replaced; newer ones never are.
        - ``dry_run``: check the file, compare it with the store, and write nothing.

        The whole file is checked first: ``IntegrityError`` where it was cut or changed, ``UnsupportedVersion``,
        ``UnknownKey``, and ``ImportRefused`` where it is of another namespace, or another record stands there. It takes
        no state subkey.
        """
        check_instance(path, "path", (str, PathLike), "a path")
        for name, flag in (("replace", replace), ("dry_run", dry_run)):
            check_flag(flag, name)
        return as_outcome(await import_file(self._hub, Path(path), replace=replace, dry_run=dry_run))

    async def copy(self, to: str | StorageBackend, *, name: str | None = None) -> Outcome[Copied]:
        """Move all suspensions and stored values to another store, while both are in use; one pass. Repeat it until it
        is ``complete`` and moves nothing: after a crash, for runs that were held, and for what was made meanwhile.

        - ``to``: the other store: a URL, or a backend that is not open. It is opened and closed here.
        - ``name``: what whoever comes for a moved record is told; None: the backend's name. It stands in clear, so it
          must hold no password.

        A verb on a moved record is refused with ``RecordMoved``, an answer that came before the move is in the new
        store. Each record is compared by its digest before the old store forgets it. It takes no state subkey.
        """
        check_instance(to, "to", (str, StorageBackend), "a URL or a backend")
        check_optional(name, "name", check_text)
        backend = backend_from_url(to) if isinstance(to, str) else to
        return as_outcome(await copy(self._hub, backend, backend.name if name is None else name))
