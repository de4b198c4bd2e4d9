"""A walk over a graph, depth first: when it leaves each object, and which objects reach themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from attrs import define, field

from flowpersist.codec.packing import Cell

__all__ = ["Walk"]


@define(eq=False)
class Walk:
    """``children`` gives the objects that one holds; ``cyclic`` are those that reach themselves, once the walk is over.

    By the lowest place that each reaches, as Tarjan's algorithm has it.
    """

    children: Callable[[Cell], Iterable[Cell]]
    cyclic: list[Cell] = field(factory=list)
    _place: dict[int, int] = field(factory=dict)
    _lowest: dict[int, int] = field(factory=dict)
    _open: list[Cell] = field(factory=list)
    _closed: set[int] = field(factory=set)
    #: Some objects are made anew at each look; no other may have their identity meanwhile.
    _kept: list[Cell] = field(factory=list)

    def leaving(self, root: Cell) -> Iterator[Cell]:
        """All that the root reaches and the root itself, each after what it reaches but for what reaches it."""
        stack = [(root, self._enter(root))]
        while stack:
            top, children = stack[-1]
            fresh = next((child for child in children if self._is_new(top, child)), stack)
            if fresh is not stack:
                stack.append((fresh, self._enter(fresh)))
                continue
            stack.pop()
            if stack:
                self._lower(stack[-1][0], self._lowest[id(top)])
            self._leave(top)
            yield top

    def _enter(self, one: Cell) -> Iterator[Cell]:
        self._place[id(one)] = self._lowest[id(one)] = len(self._place)
        self._open.append(one)
        self._kept.append(one)
        return iter(self.children(one))

    def _is_new(self, top: Cell, child: Cell) -> bool:
        if id(child) not in self._place:
            return True
        if child is top:
            self.cyclic.append(top)
        elif id(child) not in self._closed:
            self._lower(top, self._place[id(child)])
        return False

    def _lower(self, one: Cell, place: int) -> None:
        self._lowest[id(one)] = min(self._lowest[id(one)], place)

    def _leave(self, one: Cell) -> None:
        if self._lowest[id(one)] != self._place[id(one)]:
            return
        group = [self._open.pop()]
        while group[-1] is not one:
            group.append(self._open.pop())
        self._closed.update(map(id, group))
        if len(group) > 1:
            self.cyclic += group
