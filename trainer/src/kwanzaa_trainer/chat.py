"""Chats as text, and where in that text the answers are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
Span = tuple[int, int]

DEFAULT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
"""For a base without a chat template: a line with the role, the text, and the end after answers.

It is saved with the adapter's tokenizer, so that whoever loads the adapter talks the same way.
"""


PROBE = "kwanzaa-answer-probe"
"""Stands for an answer while its place is looked for."""


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A sample as text. Tokens that touch one of `spans` (character ranges) are learnt."""

    text: str
    spans: tuple[Span, ...]
    is_rendered: bool = False
    """True: a template made it, with every special token in place."""


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How this base writes chats."""

    tokenizer: "PreTrainedTokenizerBase"
    system_prompt: str | None
    takes_system: bool
    """False: the template refuses system messages; they are put before the first user's text."""

    def complete(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with the system prompt, where they have no system message of their own."""
        chat = [{"role": m["role"], "content": m["content"]} for m in messages]
        if self.system_prompt and chat[0]["role"] != "system":
            chat.insert(0, {"role": "system", "content": self.system_prompt})
        if chat[0]["role"] == "system" and not self.takes_system:
            chat = _folded(chat)
        return chat

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text up to where the next answer begins."""
        return self._render(self.complete(messages), is_open=True)

    def mark(self, messages: Sequence[Message]) -> MarkedText:
        """The whole chat with every assistant turn marked, its end-of-turn token included.

        Raises ValueError where the template refuses the chat or rewrites an answer.
        """
        chat = self.complete(messages)
        full = self._render(chat, is_open=False)
        spans = [
            self._answer_span(chat, turn, full)
            for turn, message in enumerate(chat)
            if message["role"] == "assistant"
        ]
        return MarkedText(full, tuple(spans), is_rendered=True)

    def _answer_span(self, chat: list[Message], turn: int, full: str) -> Span:
        """From the end of the generation prompt to the end of what closes this very turn.

        Templates differ: some write more after an open turn than before a closed one (a start of
        thinking, say), some drop parts of earlier turns. So the places are found by rendering the
        chat with a probe instead of this answer, and by comparing what lies around it.
        """
        answer = chat[turn]["content"]
        probed = [*chat[:turn], _message("assistant", PROBE), *chat[turn + 1 :]]
        before, _, after = self._render(probed, is_open=False).partition(PROBE)
        if full not in (f"{before}{text}{after}" for text in (answer, answer.strip())):
            raise ValueError("the base's chat template rewrites the text of this answer")
        asked = self._render(chat[:turn], is_open=True) if turn else ""
        closing = self._render(probed[: turn + 1], is_open=False).partition(PROBE)[2].rstrip()
        return _shared(asked, before), len(full) - len(after) + _shared(closing, after)

    def _render(self, chat: list[Message], *, is_open: bool) -> str:
        from jinja2 import TemplateError

        try:
            text = self.tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=is_open
            )
        except TemplateError as error:
            raise ValueError(f"the base's chat template refuses it: {error}") from error
        return str(text)


def chat_format(tokenizer: "PreTrainedTokenizerBase", system_prompt: str | None) -> ChatFormat:
    """How to write chats for this tokenizer; one without a template gets `DEFAULT_TEMPLATE`."""
    if not tokenizer.chat_template:
        tokenizer.chat_template = DEFAULT_TEMPLATE
    probe = ChatFormat(tokenizer, None, takes_system=True)
    try:
        text = probe.prompt([_message("system", "S-probe"), _message("user", "U-probe")])
    except ValueError:
        text = ""
    return ChatFormat(tokenizer, system_prompt, takes_system="S-probe" in text)


def parse_messages(raw: Any) -> list[Message]:
    """The messages of a data line. Raises ValueError saying what is wrong with them."""
    if not isinstance(raw, list) or not raw:
        raise ValueError("'messages' must be a list of messages, not empty")
    for number, message in enumerate(raw, start=1):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise ValueError(f"message {number} must have 'role' and 'content'")
        if message["role"] not in ("system", "user", "assistant"):
            raise ValueError(f"message {number}: the role must be system, user or assistant")
        if not isinstance(message["content"], str):
            raise ValueError(f"message {number}: 'content' must be text")
    answers = [message for message in raw if message["role"] == "assistant"]
    if not answers or not all(message["content"].strip() for message in answers):
        raise ValueError("there must be an assistant message, and none may be empty")
    return raw


def _folded(chat: list[Message]) -> list[Message]:
    system, rest = chat[0]["content"], chat[1:]
    if rest and rest[0]["role"] == "user":
        rest[0] = _message("user", f"{system}\n\n{rest[0]['content']}")
        return rest
    return [_message("user", system), *rest]


def _shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
