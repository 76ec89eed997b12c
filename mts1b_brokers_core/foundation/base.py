"""What every noun is made of: the frozen model, exact decimals, aware times, identifiers."""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .errors import InvalidInput, NaiveDatetime

#: The most digits an exact number has before the point, and after it.
_BEFORE, _AFTER = 30, 40

#: Ledger arithmetic: holds the sums and the products of three exact numbers to the last digit, and is loud
#: where something else doesn't fit.
LEDGER = decimal.Context(
    prec=240,
    rounding=decimal.ROUND_HALF_EVEN,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)


def decimal_from_float(value: float) -> Decimal:
    """Turn a float that a third-party decoder handed us into the decimal it was printed as."""
    return Decimal(repr(value))


def _exact(value: object) -> Decimal:
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, str):
        try:
            number = Decimal(value)
        except decimal.InvalidOperation:
            raise InvalidInput(f"got {value!r:.60}, expected a decimal number like '1.25'.") from None
    elif isinstance(value, int) and not isinstance(value, bool):
        number = Decimal(value)
    elif isinstance(value, float):
        raise InvalidInput(
            f"got the float {value!r}; a float can't hold money exactly.",
            next_step=f"write it as text: {str(value)!r}, or as Decimal({str(value)!r})",
        )
    else:
        raise InvalidInput(f"got {value!r:.60}, expected a Decimal, an int or text like '1.25'.")
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        raise InvalidInput(f"got {number:.60}, expected a finite number.")
    if number.adjusted() >= _BEFORE or exponent < -_AFTER:
        raise InvalidInput(f"got a number beyond {_BEFORE} digits before the point or {_AFTER} after it.")
    return number


def _positive(value: Decimal) -> Decimal:
    if value <= 0:
        raise InvalidInput(f"got {value}, expected more than zero.")
    return value


def _not_negative(value: Decimal) -> Decimal:
    if value < 0:
        raise InvalidInput(f"got {value}, expected zero or more.")
    return value


def _aware(value: datetime) -> datetime:
    zone = value.tzinfo
    if zone is UTC:
        return value
    if zone is None or value.utcoffset() is None:
        raise NaiveDatetime(f"got {value.isoformat()} without a time zone, expected an aware time.")
    return value.astimezone(UTC)


_Made = TypeVar("_Made", bound=BaseModel)

#: An exact, finite number; floats are refused.
Exact = Annotated[Decimal, BeforeValidator(_exact)]
#: An exact number above zero.
Positive = Annotated[Decimal, BeforeValidator(_exact), AfterValidator(_positive)]
#: An exact number of zero or more.
NotNegative = Annotated[Decimal, BeforeValidator(_exact), AfterValidator(_not_negative)]
#: An aware time, held in UTC.
UtcTime = Annotated[datetime, AfterValidator(_aware)]
#: A currency or asset code such as USD, BTC or USDC.
Currency = Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9.]{0,19}$")]
#: An identifier: 1 to 128 printable ASCII characters.
Identifier = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x20-\x7e]+$")]


class Model(BaseModel):
    """A frozen value with exact fields; whatever is wrong with it raises `InvalidInput`."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, ser_json_inf_nan="strings")

    #: The fields a one-line repr shows, in order; those that are None are left out.
    repr_fields: ClassVar[tuple[str, ...]] = ()

    if not TYPE_CHECKING:

        def __init__(self, **data: Any) -> None:
            try:
                self.__pydantic_validator__.validate_python(data, self_instance=self)
            except ValidationError as error:
                raise _typed(type(self), error) from None

        # Keeps nested validation on pydantic's fast path: this constructor adds nothing but the error's type.
        __init__.__pydantic_base_init__ = True

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Build from a mapping or an instance. Raises `InvalidInput`."""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise _typed(cls, error) from None

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Build from JSON text. Raises `InvalidInput`."""
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            raise _typed(cls, error) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some fields changed; the changes are validated. Raises `InvalidInput`."""
        if not update:
            return super().model_copy(deep=deep)
        return type(self)(**{**self.__dict__, **update})

    def evolve(self, **trusted: Any) -> Self:
        """Return a copy with fields changed that are known to be right: no validation, for hot paths."""
        return _made(type(self), self.__dict__ | trusted, self.__pydantic_fields_set__ | trusted.keys())

    @classmethod
    def trusted(cls, **values: Any) -> Self:
        """Build from all fields, known to be right: no validation and no defaults, for hot paths."""
        return _made(cls, values, _given(cls))

    @classmethod
    def adopt(cls, values: dict[str, Any]) -> Self:
        """Build like `trusted` from a dictionary that becomes the value's own."""
        return _made(cls, values, _given(cls))

    def __repr__(self) -> str:
        names = self.repr_fields or tuple(type(self).model_fields)
        shown = ((name, getattr(self, name)) for name in names)
        inner = ", ".join(f"{name}={_short(value)}" for name, value in shown if value not in (None, (), {}))
        return f"{type(self).__name__}({inner})"

    __str__ = __repr__


_set = object.__setattr__


@cache
def _given(model: type[BaseModel]) -> set[str]:
    """Return the names of all fields: one set for all values built from all of them."""
    return set(model.model_fields)


def _made(model: type[_Made], values: dict[str, Any], given: set[str]) -> _Made:
    made = object.__new__(model)
    _set(made, "__dict__", values)
    _set(made, "__pydantic_fields_set__", given)
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    return made


def _short(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, str) else repr(value)


def plain(value: Decimal) -> str:
    """Return a decimal as text without exponent, exactly as many digits as it holds."""
    return format(value, "f")


def _typed(model: type[BaseModel], error: ValidationError) -> InvalidInput:
    rows = error.errors(include_url=False)
    secret = [name for name, info in model.model_fields.items() if "Secret" in str(info.annotation)]
    return InvalidInput.from_validation(model.__name__, rows, model.model_fields, secret)


class Money(Model):
    """An exact amount of one currency."""

    amount: Exact
    currency: Currency

    def __repr__(self) -> str:
        return f"{plain(self.amount)} {self.currency}"

    __str__ = __repr__

    def __add__(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise InvalidInput(f"{self} and {other} can't be added: the currencies differ.")
        return Money.trusted(amount=LEDGER.add(self.amount, other.amount), currency=self.currency)

    def __neg__(self) -> Money:
        return Money.trusted(amount=self.amount.copy_negate(), currency=self.currency)
