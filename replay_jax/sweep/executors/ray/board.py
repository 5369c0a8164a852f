"""What edges on a Ray cluster tell the driver, and must agree on; knows nothing of Ray."""

from replay_jax.sweep.store.environment import Facts, anywhere, differences
from replay_jax.sweep.train.messages import Message


class Board:
    """Where edges leave their progress and ask whether to stop; an actor on the driver's node.

    `software` is the driver's. All nodes must have its code and versions, but for what only an
    accelerator needs, and among each other the same of that as well.
    """

    def __init__(self, software: Facts) -> None:
        self._news: list[Message] = []
        self._stopping = False
        self._driver, self._first = software, ("", software)

    def refusal(self, node: str, software: Facts) -> str | None:
        """Why a node must not train, in a sentence; None if it is like the driver and the first."""
        first, known = self._first
        pairs = [("the driver", anywhere(self._driver), anywhere(software))]
        if first:
            pairs.append((first, known, software))
        for name, there, here in pairs:
            found = differences({"software": there}, {"software": here})
            if found:
                return (
                    f"{node} has other code or versions than {name} ({'; '.join(found)}): install "
                    "the same on all nodes, or add --accept_environment to have both named"
                )
        if not first:
            self._first = (node, software)
        return None

    def exchange(self, news: list[Message]) -> bool:
        """Take progress in; returns whether all edges are to save and end."""
        self._news.extend(news)
        return self._stopping

    def drain(self) -> list[Message]:
        """All progress since the last call."""
        news, self._news = self._news, []
        return news

    def stop(self) -> None:
        """Tell all edges to save and end."""
        self._stopping = True
