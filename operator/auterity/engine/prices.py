"""What vendors charge by the hour: the lists in `auterity/prices/`, and those put over them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

CURRENCY: Final = "USD"
"""What all prices and budgets are in, so that they can be added up."""

Amount = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Region = Annotated[str, Field(min_length=1, max_length=63)]
Items = dict[Annotated[str, Field(min_length=1, max_length=128)], Amount]


class PriceList(BaseModel):
    """One vendor's prices by the hour, as its list told them on a day."""

    # A misspelt key must not pass for a price that is not there.
    model_config = ConfigDict(extra="forbid", frozen=True)

    vendor: Annotated[str, Field(min_length=1, max_length=63)]
    """The vendor's block in spec, such as sageMaker."""
    currency: Literal["USD"] = "USD"
    as_of: date
    """The day on which the source said so."""
    source: Annotated[str, Field(min_length=1, max_length=512)]
    """Where the prices stand: the vendor's page, or a contract's name."""
    region: Region | None = None
    """The region that `items` are of; None: they are the same everywhere."""
    items: Items = Field(default_factory=dict)
    """What one hour of each costs."""
    regions: dict[Region, Items] = Field(default_factory=dict)
    """The same for other regions."""

    @model_validator(mode="after")
    def _has_some(self) -> Self:
        if not self.items and not any(self.regions.values()):
            raise ValueError("there is no price in it")
        return self

    def find(self, item: str, region: str | None) -> "Price | None":
        """What it costs in this region; None: the list does not say."""
        if region is not None and (amount := self.regions.get(region, {}).get(item)) is not None:
            return Price(amount, self.source, self.as_of, region)
        return self.at_home(item) if self.region in (None, region) else None

    def at_home(self, item: str) -> "Price | None":
        """What it costs in the region that the list is about."""
        if (amount := self.items.get(item)) is None:
            return None
        return Price(amount, self.source, self.as_of, self.region)


@dataclass(frozen=True, slots=True)
class Price:
    """What one hour of an item costs, and who says so."""

    amount: float
    source: str
    as_of: date
    region: str | None
    """The region that it is the price of; None: everywhere."""


class BadPrices(Exception):  # noqa: N818 - named by what is the matter
    """A price list is not what it should be; the message names file, place and problem."""


class Prices:
    """Prices by vendor, item and region. A vendor's list is read when it is first asked for."""

    def __init__(self, over: Sequence[PriceList] = ()) -> None:
        self._over = over
        self._lists: dict[str, tuple[PriceList, ...]] = {}

    def find(self, vendor: str, item: str, region: str | None) -> Price | None:
        """What one hour of it costs there, else in the region that a list is about.

        What was put over wins; of several lists, the last one that tells. None: nobody tells.
        """
        lists = self._of(vendor)
        there = (one.find(item, region) for one in lists)
        elsewhere = (one.at_home(item) for one in lists)
        return next((price for price in (*there, *elsewhere) if price is not None), None)

    def _of(self, vendor: str) -> tuple[PriceList, ...]:
        if (known := self._lists.get(vendor)) is None:
            over = [one for one in reversed(self._over) if one.vendor == vendor]
            known = self._lists[vendor] = (*over, *_built_in(vendor))
        return known


def read(path: Path) -> tuple[PriceList, ...]:
    """The price lists in a file: one, several documents, or documents that are lists of them.

    Raises BadPrices.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadPrices(f"{path}: cannot be read: {error}") from None
    return tuple(_parse(text, str(path)))


def _built_in(vendor: str) -> Iterable[PriceList]:
    file = resources.files("auterity").joinpath("prices", f"{vendor}.yaml")
    return _parse(file.read_text(encoding="utf-8"), file.name) if file.is_file() else ()


def _parse(text: str, name: str) -> list[PriceList]:
    # Most processes never ask for a price.
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        documents = [one for one in yaml.load_all(text, loader) if one is not None]
    except yaml.YAMLError as error:
        raise BadPrices(f"{name}: not YAML: {error}") from None
    found: list[Any] = []
    for document in documents:
        found += document if isinstance(document, list) else [document]
    return [_list(one, name, place) for place, one in enumerate(found, 1)]


def _list(document: Any, name: str, place: int) -> PriceList:
    try:
        return PriceList.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        vendor = document.get("vendor") if isinstance(document, dict) else None
        which = vendor if isinstance(vendor, str) else f"list {place}"
        told = first["msg"].removeprefix("Value error, ")
        raise BadPrices(f"{name}: {which}: {where + ': ' if where else ''}{told}") from None
