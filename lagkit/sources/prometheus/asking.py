"""Range queries about weeks: what an earlier run was told is not asked again."""

from __future__ import annotations

from dataclasses import dataclass, field

from lagkit.sources.prometheus.grid import Grid
from lagkit.sources.prometheus.kept import Kept
from lagkit.sources.prometheus.queries import Queries, Series


@dataclass(slots=True)
class Asking:
    """The questions of one run, with what was learnt beside their answers."""

    ask: Queries
    kept: Kept | None
    facts: dict[str, str] = field(default_factory=dict)
    taken: int = 0
    """Answers that were kept from before."""

    def range(self, expression: str, grid: Grid) -> Series:
        """Return *expression* at every point of *grid*; only a whole answer is kept.

        Raises
        ------
        HttpFailure
            As :meth:`~lagkit.sources.prometheus.queries.Queries.range`.
        """
        statement = f"{expression} {grid.first} {grid.last} {grid.step}"
        if self.kept and (known := self.kept.get(statement)) is not None:
            self.taken += 1
            with self.ask.questions.ask(f"kept: {expression}") as question:
                question.rows = len(known[0])
            return Series(known[0], known[1], "")
        # a Queries of its own tells whether this answer lacks something
        ask = Queries(self.ask.server, self.ask.scope, self.ask.deadline, self.ask.questions)
        answer = ask.range(expression, grid)
        if ask.failures:
            for blind in ask.blind:
                self.ask.miss(blind.what, blind.why, blind.fix)
        elif self.kept:
            self.kept.put(statement, answer.samples, answer.series)
        return answer
