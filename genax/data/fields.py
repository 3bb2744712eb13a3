"""Fields: what the parts of an example are, in memory and in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from genax.core.errors import GenaxError


@dataclass(frozen=True)
class Field:
    """One part of every example of a data set.

    A subclass states its own class attributes, and its own `stored` and `restored` if the default
    does not fit. Nothing else has to know of it.
    """

    # In a sentence.
    what: ClassVar[str] = "a value"
    # In an example.
    python: ClassVar[type] = object
    # In a file.
    dtype: ClassVar[Any] = np.uint8

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape in a file; None is any length."""
        return (None,)

    def fits(self, value: Any) -> bool:
        """Return whether a value of an example is of this field."""
        return isinstance(value, self.python)

    def stored(self, value: Any) -> np.ndarray:
        """Return the array that a file keeps of a value. Raises GenaxError if none does."""
        raise self._not_stored()

    def restored(self, array: np.ndarray) -> Any:
        """Return the value that `stored` was given. Raises GenaxError like `stored`."""
        raise self._not_stored()

    def _not_stored(self) -> GenaxError:
        return GenaxError(
            f"{self.what} cannot be kept in a prepared set; describe it in the catalogue by "
            "another field of genax.data.fields, such as Text or Numbers."
        )

    def column(self, values: Sequence[Any]) -> np.ndarray:
        """Return the values of several examples as one array [n, ...]; texts are objects in it."""
        result = np.empty(len(values), object)
        for number, value in enumerate(values):
            result[number] = value
        return result


@dataclass(frozen=True)
class Image(Field):
    """A picture, uint8 [height, width, channels]; a side that is None varies."""

    height: int | None
    width: int | None
    channels: int

    what = "an image"
    python = np.ndarray

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape in a file."""
        return self.height, self.width, self.channels

    def stored(self, value: np.ndarray) -> np.ndarray:
        """Return the picture itself."""
        return value

    def restored(self, array: np.ndarray) -> np.ndarray:
        """Return the picture itself."""
        return array

    def fits(self, value: Any) -> bool:
        """Return whether a value is a picture of these sides."""
        sides = zip(np.shape(value), self.shape, strict=False)
        same = all(wanted in (None, found) for found, wanted in sides)
        return same and np.ndim(value) == 3 and value.dtype == np.uint8

    def column(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Return uint8 [n, height, width, channels]."""
        return np.stack(values)


@dataclass(frozen=True)
class Bitmap(Image):
    """A picture of black and white pixels, 0 or 255; a file has eight of them in a byte.

    Its sides are given.
    """

    what = "an image of the pixels 0 and 255"

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape in a file: bytes."""
        return (None,)

    def stored(self, value: np.ndarray) -> np.ndarray:
        """Return the pixels as bits, row by row."""
        return np.packbits(value > 0)

    def restored(self, array: np.ndarray) -> np.ndarray:
        """Return the picture."""
        sides: Any = (self.height, self.width, self.channels)
        return 255 * np.unpackbits(array, count=math.prod(sides)).reshape(sides)

    def fits(self, value: Any) -> bool:
        """Return whether a value is such a picture of these sides."""
        sides = (self.height, self.width, self.channels)
        same = np.shape(value) == sides and value.dtype == np.uint8
        return same and bool(np.isin(value, (0, 255)).all())


@dataclass(frozen=True)
class Series(Field):
    """Measurements in time, float32 [length, channels]."""

    length: int
    channels: int = 1

    what = "a series of finite numbers"
    python = np.ndarray
    dtype = np.float32

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape in a file."""
        return self.length, self.channels

    def stored(self, value: np.ndarray) -> np.ndarray:
        """Return the series itself."""
        return value

    def restored(self, array: np.ndarray) -> np.ndarray:
        """Return the series itself."""
        return array

    def fits(self, value: Any) -> bool:
        """Return whether a value is a series of this length."""
        same = np.shape(value) == self.shape and value.dtype == np.float32
        return same and bool(np.isfinite(value).all())

    def column(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [n, length, channels]."""
        return np.stack(values)


@dataclass(frozen=True)
class Number(Field):
    """A whole number of 32 bits."""

    what = "a whole number"
    python: ClassVar[type] = int
    dtype: ClassVar[Any] = np.int32

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape in a file: no axes."""
        return ()

    def stored(self, value: float) -> np.ndarray:
        """Return the number as an array without axes."""
        return np.array(value, self.dtype)

    def restored(self, array: np.ndarray) -> float:
        """Return the number as Python has it."""
        return self.python(array)

    def column(self, values: Sequence[float]) -> np.ndarray:
        """Return one array [n]. Raises OverflowError for a number that exceeds 32 bits."""
        return np.array(values, self.dtype)


@dataclass(frozen=True)
class Label(Number):
    """A class in [0, classes); None is any number of classes.

    names: what the classes are called, if they have names.
    """

    classes: int | None = None
    names: tuple[str, ...] = ()

    what = "a class as a whole number (real numbers are for a regression)"


@dataclass(frozen=True)
class Real(Number):
    """A real number."""

    what = "a finite number"
    python = float
    dtype = np.float32

    def fits(self, value: Any) -> bool:
        """Return whether a value is a finite number."""
        return isinstance(value, int | float) and math.isfinite(value)


@dataclass(frozen=True)
class Text(Field):
    """A text, in a file its UTF-8 bytes."""

    what = "a text"
    python = str

    def stored(self, value: str | bytes) -> np.ndarray:
        """Return the bytes of a text, or of what a file already holds as bytes."""
        content = value if isinstance(value, bytes) else value.encode(errors="surrogatepass")
        return np.frombuffer(content, np.uint8)

    def restored(self, array: np.ndarray) -> str:
        """Return the text; bytes that are no UTF-8 become U+FFFD."""
        content = array.tobytes()
        try:
            return content.decode(errors="surrogatepass")
        except UnicodeDecodeError:
            return content.decode(errors="replace")


@dataclass(frozen=True)
class _Listed(Field):
    """A list, in a file its JSON."""

    python = tuple
    part: ClassVar[type] = object

    def fits(self, value: Any) -> bool:
        """Return whether a value is a list of such parts."""
        return isinstance(value, tuple | list) and all(isinstance(x, self.part) for x in value)

    def stored(self, value: Sequence[Any]) -> np.ndarray:
        """Return the bytes of the list as JSON."""
        return Text().stored(json.dumps(value, ensure_ascii=False, allow_nan=False))

    def restored(self, array: np.ndarray) -> tuple[Any, ...]:
        """Return the list as a tuple."""
        return tuple(json.loads(Text().restored(array)))


@dataclass(frozen=True)
class Texts(_Listed):
    """A list of texts."""

    what = "a list of texts"
    part = str


@dataclass(frozen=True)
class Numbers(_Listed):
    """A list of whole numbers."""

    what = "a list of whole numbers"
    part = int


@dataclass(frozen=True)
class Labels(Numbers):
    """A list of classes in [0, classes); None is any number of classes.

    names: what the classes are called, if they have names.
    """

    classes: int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Other(Field):
    """A part that no reader of genax asks for, by the name that others give its kind."""

    called: str

    what = "something else"


def image_of(fields: Mapping[str, Field]) -> str | None:
    """Return the name of the first image, if there is one."""
    return next((name for name, field in fields.items() if isinstance(field, Image)), None)


def series_of(fields: Mapping[str, Field]) -> str | None:
    """Return the name of the first series, if there is one."""
    return next((name for name, field in fields.items() if isinstance(field, Series)), None)


def label_of(fields: Mapping[str, Field]) -> str | None:
    """Return the name of what classifies an example, if there is one.

    It is "label", a class or a whole number, or else the only class that there is.
    """
    if isinstance(fields.get("label"), Number) and not isinstance(fields["label"], Real):
        return "label"
    classes = [name for name, field in fields.items() if isinstance(field, Label)]
    return classes[0] if len(classes) == 1 else None


def factors_of(fields: Mapping[str, Field]) -> tuple[str, ...]:
    """Return the names of all classes but "label", such as those that made a sprite."""
    return tuple(
        name for name, field in fields.items() if isinstance(field, Label) and name != "label"
    )


def listed(fields: Mapping[str, Field]) -> str:
    """Return the names of fields with their kinds, for messages."""
    return ", ".join(
        f"{name} ({field.called if isinstance(field, Other) else type(field).__name__})"
        for name, field in sorted(fields.items())
    )


def list_of(field: Field, called: str) -> Field:
    """Return the field of a list of values of a field.

    called: the name of a list that no reader asks for.
    """
    match field:
        case Label(classes=classes, names=names):
            return Labels(classes, names)
        case Number() if not isinstance(field, Real):
            return Numbers()
        case Text():
            return Texts()
    return Other(called)
