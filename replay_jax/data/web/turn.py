"""One turn of an agent on a web page: what it is shown, and what it should do."""

from collections.abc import Mapping
from dataclasses import dataclass

from replay_jax.data.web.actions import Action
from replay_jax.data.web.boxes import Box
from replay_jax.data.web.candidates import Candidate

WEBLINX, MIND2WEB = "weblinx", "mind2web"
# What the data sets call their parts; scores are given for each, and for those of OUT_OF_DOMAIN
# together.
SPLITS: Mapping[str, tuple[str, ...]] = {
    WEBLINX: ("train", "valid", "test_iid", "test_web", "test_cat", "test_geo", "test_vis"),
    MIND2WEB: ("train", "test_task", "test_website", "test_domain"),
}
OUT_OF_DOMAIN = ("test_web", "test_cat", "test_geo", "test_vis")


@dataclass(frozen=True)
class Shown:
    """What an agent is shown: texts, "" for what a record does not have."""

    html: str
    utterances: str
    viewport: str
    history: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class WebTurn:
    """A turn of a demonstration, or of a task of Mind2Web.

    Attributes:
        where: file and line, for messages.
        data_set: WEBLINX or MIND2WEB.
        demo: the demonstration's name; turns of one are not independent.
        turn: number within it.
        split: of SPLITS.
        shown: the page and what was said.
        action: what was done.
        text: the same as the record writes it: what is learnt.
        boxes: of elements, by uid.
        whole_page: whether these are all elements of the page, or the candidates alone.
        right: Mind2Web's elements that are all right, by uid; none where the data set names none.
    """

    where: str
    data_set: str
    demo: str
    turn: int
    split: str
    shown: Shown
    action: Action
    text: str
    boxes: Mapping[str, Box]
    whole_page: bool
    right: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from every other turn."""
        return self.demo, self.turn

    @property
    def learnable(self) -> bool:
        """Whether there is an action to learn: some steps of Mind2Web have no right element."""
        return self.data_set == WEBLINX or bool(self.right)
