"""What a venue charges: maker and taker rates by volume, amounts per unit, minimums, rebates; all exact."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from mts1b_brokers_core.foundation.accounts import FeeTier
from mts1b_brokers_core.foundation.errors import InvalidInput
from mts1b_brokers_core.foundation.instruments import Instrument, Rounding

from .units import decimals, to_units

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class VolumeTier:
    """Rates (fractions of the value, negative is a rebate) from this 30-day volume in quote currency on."""

    maker: Decimal
    taker: Decimal
    from_volume: Decimal = _ZERO


@dataclass(frozen=True, slots=True)
class FeeRule:
    """One fee rule for some instruments.

    `applies_to` is a symbol, an asset class or `*`. The fee of an order is the rate of its value, or of
    its quantity where it is paid in `base`, plus `per_unit` for each unit, and at least `minimum`. It is
    paid in `currency`: quote, base or a code of its own, then at `conversion` units of it per unit of
    quote. The running total of each order is rounded to `increment` by the `rounding` named, so a
    rounded fee never drifts from the order's exact one.
    """

    tiers: tuple[VolumeTier, ...] = (VolumeTier(_ZERO, _ZERO),)
    applies_to: str = "*"
    per_unit: Decimal = _ZERO
    minimum: Decimal = _ZERO
    currency: str = "quote"
    conversion: Decimal = Decimal(1)
    rounding: Rounding = Rounding.NEAREST
    increment: Decimal = Decimal("0.00000001")

    def __post_init__(self) -> None:
        volumes = [tier.from_volume for tier in self.tiers]
        if not volumes or volumes[0] != 0 or volumes != sorted(set(volumes)):
            raise InvalidInput(
                f"fee tiers for {self.applies_to} start at volumes {[str(v) for v in volumes]}; "
                "expected ascending volumes from 0."
            )
        if self.minimum < 0 or self.per_unit < 0 or self.increment <= 0 or self.conversion <= 0:
            raise InvalidInput(f"the fee rule for {self.applies_to} has a negative amount.")

    def tier(self, volume: Decimal) -> VolumeTier:
        """Return the tier for a 30-day volume in quote currency."""
        return next(tier for tier in reversed(self.tiers) if volume >= tier.from_volume)

    def as_tier(self, volume: Decimal) -> FeeTier:
        """Return the rule as the foundation's noun, at a volume."""
        tier = self.tier(volume)
        return FeeTier(
            applies_to=self.applies_to,
            maker_rate=tier.maker,
            taker_rate=tier.taker,
            per_unit=self.per_unit or None,
            minimum=self.minimum or None,
            currency=self.currency,
        )


#: The default: 0.4 % maker, 0.6 % taker in quote currency, as retail crypto venues start with.
CRYPTO_FEES = FeeRule(
    tiers=(
        VolumeTier(Decimal("0.0040"), Decimal("0.0060")),
        VolumeTier(Decimal("0.0025"), Decimal("0.0040"), Decimal(10_000)),
        VolumeTier(Decimal("0.0015"), Decimal("0.0025"), Decimal(50_000)),
    ),
    applies_to="crypto",
    rounding=Rounding.UP,
)
#: The default for shares: 0.005 a share, at least 1.00 an order, cents rounded up.
EQUITY_FEES = FeeRule(
    applies_to="equity",
    per_unit=Decimal("0.005"),
    minimum=Decimal(1),
    rounding=Rounding.UP,
    increment=Decimal("0.01"),
)
#: What is charged where no schedule is given.
DEFAULT_FEES: tuple[FeeRule, ...] = (CRYPTO_FEES, EQUITY_FEES)


def rule_for(rules: tuple[FeeRule, ...], instrument: Instrument) -> FeeRule:
    """Return the most specific rule for an instrument: by symbol, asset class, then `*`; else no fee."""
    for wanted in (instrument.symbol, instrument.key, str(instrument.asset_class), "*"):
        for rule in rules:
            if rule.applies_to == wanted:
                return rule
    return FeeRule()


class FeeMeter:
    """The exact integer arithmetic of one rule for one instrument.

    Totals are numerators over `scale` ledger units of the fee's currency.
    """

    __slots__ = (
        "_conversion",
        "_denominator",
        "_minimum",
        "_per_lot",
        "_quantum",
        "_rates",
        "_rounding",
        "currency",
        "in_base",
        "rule",
        "scale",
    )

    def __init__(self, rule: FeeRule, currency: str, *, lot: Decimal, digits: int, basis_digits: int) -> None:
        """`digits` scale the fee's currency, `basis_digits` what rates apply to: quote, or base."""
        self.rule = rule
        self.currency = currency
        self.in_base = rule.currency == "base"
        rate_digits = max(decimals(rate) for tier in rule.tiers for rate in (tier.maker, tier.taker))
        conversion_digits = decimals(rule.conversion)
        # numerator unit: 10**-(basis + rate + conversion digits, or more) of the fee currency
        finest = max(basis_digits + rate_digits + conversion_digits, digits, decimals(rule.per_unit * lot))
        self.scale = 10 ** (finest - digits)
        self._conversion = (
            to_units(rule.conversion, conversion_digits)
            * 10 ** (finest - basis_digits - rate_digits - conversion_digits)
            * 10**rate_digits
        )
        self._per_lot = to_units(rule.per_unit * lot, finest)
        self._minimum = to_units(rule.minimum, digits)
        self._quantum = to_units(rule.increment, digits)
        self._denominator = self.scale * self._quantum
        self._rounding = rule.rounding
        self._rates: dict[Decimal, tuple[int, int, int]] = {}

    def rate(self, rate: Decimal) -> int:
        """Return a rate as the numerator it adds for each ledger unit of the basis."""
        digits = decimals(rate)
        factor: int = self._conversion // 10**digits
        return to_units(rate, digits) * factor

    def rates(self, tier: VolumeTier) -> tuple[int, int, int]:
        """Return a tier's maker and taker rates and the dearer of them, as `rate` does."""
        known = self._rates.get(tier.from_volume)
        if known is None:
            maker, taker = self.rate(tier.maker), self.rate(tier.taker)
            known = self._rates[tier.from_volume] = (maker, taker, max(maker, taker))
        return known

    def numerator(self, basis: int, lots: int, rate: int) -> int:
        """Return the exact fee of a trade, as a numerator over `scale`; `basis` in ledger units."""
        return basis * rate + lots * self._per_lot

    def total(self, numerator: int) -> int:
        """Return an order's fee so far in ledger units: rounded by the rule, at least the minimum."""
        fee = _round(numerator, self._denominator, self._rounding) * self._quantum
        return max(fee, self._minimum) if self._minimum else fee  # without a minimum it may be a rebate


def _round(numerator: int, denominator: int, rule: Rounding) -> int:
    """Divide and round to a whole number by the rule named."""
    whole, rest = divmod(numerator, denominator)
    if not rest or rule is Rounding.FLOOR:
        return whole
    if rule is Rounding.CEILING:
        return whole + 1
    if rule is Rounding.UP:
        return whole + (numerator > 0)
    if rule is Rounding.DOWN:
        return whole + (numerator < 0)
    twice = 2 * rest
    return whole + (twice > denominator or (twice == denominator and whole % 2 == 1))
