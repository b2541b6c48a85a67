"""A tree of actors as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .supervisor import Supervising

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cell import Cell
    from .children import Children


def render(title: str, root: Children) -> str:
    """One line for each actor that its parent knows, indented below that; static children also when they have ended.

    ::

        rookery
        ├── reader  running  queue 0/1000
        └── training  running  one for all
            └── trainer  starting  queue 12/1000  restarts 1
    """
    return "\n".join([title, *_branches(root, "")])


def _branches(children: Children | None, indent: str) -> Iterator[str]:
    cells = [] if children is None else children.cells
    for cell in cells:
        last = cell is cells[-1]
        yield f"{indent}{'└── ' if last else '├── '}{_line(cell)}"
        yield from _branches(cell.children, indent + ("    " if last else "│   "))


def _line(cell: Cell) -> str:
    behaviour = cell.spec.behaviour
    if isinstance(behaviour, Supervising):
        parts = [cell.name, cell.state.value, behaviour.options.strategy.value]
    else:
        parts = [cell.name, cell.state.value, f"queue {len(cell.mailbox)}/{cell.mailbox.capacity}"]
    if cell.incarnations > 1:
        parts.append(f"restarts {cell.incarnations - 1}")
    return "  ".join(parts)
