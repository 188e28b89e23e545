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

    _ordinary: ClassVar[type[BaseModel]]

    @classmethod
    def later(cls, known: dict[str, Any], read: Callable[[], dict[str, Any]]) -> Self:
        """A model with some fields now; the others are what `read` returns when one of them is asked for.

        The fields are not validated: that would read them, and they are ours.
        """
        model = cls.__new__(cls)
        _set(model, "__pydantic_fields_set__", set(cls._ordinary.model_fields))
        _set(model, "__pydantic_extra__", None)
        _set(model, "__pydantic_private__", None)
        known[_READ] = read
        _attributes.__set__(model, known)
        return model

    def _settle(self) -> dict[str, Any]:
        attributes: dict[str, Any] = _attributes.__get__(self)
        read = attributes.get(_READ)
        if read is None:
            return attributes
        whole = {**attributes, **read()}  # of two threads both may read; they find the same
        whole = {name: whole[name] for name in self._ordinary.model_fields}
        # In this order, and by replacing: another thread must never see an ordinary model that lacks fields.
        _attributes.__set__(self, whole)
        _set(self, "__class__", self._ordinary)
        return whole

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # an attribute of object, to mypy
        return self._settle()

    def __getattr__(self, name: str) -> Any:
        if name in self._ordinary.model_fields:
            return self._settle()[name]
        raise AttributeError(f"{self._ordinary.__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        self._settle()
        setattr(self, name, value)

    # Copying, pickling and `repr` ask for the class first: it must be the ordinary one by then, which then does it.
    def __copy__(self) -> Self:
        self._settle()
        return self.__copy__()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        self._settle()
        return self.__deepcopy__(memo)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        self._settle()
        return self.__reduce_ex__(protocol)

    def __repr__(self) -> str:
        self._settle()
        return repr(self)

    def __eq__(self, other: object) -> bool:
        for each in (self, other):
            if isinstance(each, _Lazy):
                each._settle()
        return bool(self == other)

    __hash__ = None  # type: ignore[assignment]  # as pydantic's models


class LazyChat(_Lazy, ChatResponse):
    """A chunk of a chat: its `message` is all that had arrived by then."""

    _ordinary = ChatResponse


class LazyCompletion(_Lazy, CompletionResponse):
    """A chunk of a completion: its `text` is all that had arrived by then."""

    _ordinary = CompletionResponse
