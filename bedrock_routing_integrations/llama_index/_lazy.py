"""Responses whose text is put together when somebody looks at it.

In a stream LlamaIndex gives, with each chunk, all that came before. Copied each time, 20,000 chunks of one word are a
gigabyte; most readers look at `delta` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

_READ = "_read_later"
# Where Python keeps the attributes of a pydantic model. Pydantic's serializer, `copy`, `pickle` and `repr` all ask for
# ``__dict__``, so that is where the missing fields are filled in; tests/test_upstream.py names this.
_attributes: Any = BaseModel.__dict__["__dict__"]
_set = object.__setattr__


class _Lazy:
    """A pydantic model some of whose fields are read when they are first needed; from then on an ordinary one."""

    ordinary: ClassVar[type[BaseModel]]

    @classmethod
    def later(cls, known: dict[str, Any], read: Callable[[], dict[str, Any]]) -> Self:
        """A model with some fields now; the others are what `read` returns when one of them is asked for.

        The fields are not validated: that would read them, and they are ours.
        """
        model = cls.__new__(cls)
        _set(model, "__pydantic_fields_set__", set(cls.ordinary.model_fields))
        _set(model, "__pydantic_extra__", None)
        _set(model, "__pydantic_private__", None)
        known[_READ] = read
        _attributes.__set__(model, known)
        return model

    @property
    def __dict__(self) -> dict[str, Any]:
        return _settle(self)

    @__dict__.setter
    def __dict__(self, attributes: dict[str, Any]) -> None:
        # Pydantic makes a model, or the copy of one: it has all fields, and needs nothing of this class.
        _attributes.__set__(self, attributes)
        _set(self, "__class__", self.ordinary)

    def __getattr__(self, name: str) -> Any:
        kind: Any = type(self)
        if name in kind.model_fields:
            return _settle(self)[name]
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        _settle(self)
        setattr(self, name, value)

    # `pickle` and `repr` ask for the class first: it must be the ordinary one by then.
    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        _settle(self)
        return self.__reduce_ex__(protocol)

    def __repr__(self) -> str:
        _settle(self)
        return repr(self)

    def __eq__(self, other: object) -> bool:
        for each in (self, other):
            if isinstance(each, _Lazy):
                _settle(each)
        return bool(self == other)

    __hash__ = None  # type: ignore[assignment]  # as pydantic's models


def _settle(model: Any) -> dict[str, Any]:
    """Make it an ordinary model; returns its attributes.

    Two threads may do it at once, and read the same; neither sees an ordinary model that lacks fields. It is no method,
    because one thread can make the model ordinary, without such methods, while another is on its way here.
    """
    attributes: dict[str, Any] = _attributes.__get__(model)
    kind: Any = type(model)
    read = attributes.get(_READ)
    if read is not None:
        whole = {**attributes, **read()}
        attributes = {name: whole[name] for name in kind.model_fields}
        _attributes.__set__(model, attributes)
    if issubclass(kind, _Lazy):
        _set(model, "__class__", kind.ordinary)
    return attributes


class LazyChat(_Lazy, ChatResponse):
    """A chunk of a chat: its `message` is all that had arrived by then."""

    ordinary: ClassVar[type[BaseModel]] = ChatResponse


class LazyCompletion(_Lazy, CompletionResponse):
    """A chunk of a completion: its `text` is all that had arrived by then."""

    ordinary: ClassVar[type[BaseModel]] = CompletionResponse
