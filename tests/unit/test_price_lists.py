"""The price lists that come with Auterity: whole, and good for what the samples declare."""

import warnings
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest

from auterity.api.kinds import KINDS
from auterity.engine.contract import Provider
from auterity.engine.prices import PriceList, Prices, read
from auterity.providers.catalogue import catalogue
from tests.manifests import read as declared
from tools.generate import ROOT
from tools.samples import every, parts

FOLDER = Path(str(resources.files("auterity").joinpath("prices")))
LISTS = [(path, one) for path in sorted(FOLDER.glob("*.yaml")) for one in read(path)]
TODAY = datetime.now(UTC).date()
OLD = timedelta(days=365)
UNKNOWN = {
    ("bedrock", "amazon.nova-lite-v1:0:24k"): "AWS tells it to whoever asks",
    ("azureOpenAI", "tuned-model-hosting"): "Azure's page tells it by the base model",
    ("modal", "Qwen/Qwen3.5-4B"): "only Modal knows what a recipe runs on",
    ("modal", "translate/serve"): "only the App's code knows what it runs on",
    ("together", "projects/proj_0123456789/configs/cr_0123456789"): "a config of one's own",
}
"""What the samples have that no list can name a price of, and why."""


def called(listed: tuple[Path, PriceList]) -> str:
    path, one = listed
    return f"{path.stem}-{one.region or 'everywhere'}-{one.as_of}"


@pytest.mark.parametrize("listed", LISTS, ids=called)
def test_a_list_says_whose_it_is_where_it_stands_and_since_when(
    listed: tuple[Path, PriceList],
) -> None:
    path, one = listed
    assert one.vendor == path.stem
    assert one.source.startswith("https://")
    assert date(2023, 1, 1) < one.as_of <= TODAY, "a list cannot be of the future"
    assert all(price > 0 for price in one.items.values()), "what is free need not be listed"


@pytest.mark.parametrize("vendor", sorted({one.vendor for _, one in LISTS}))
def test_somebody_bills_by_every_list(vendor: str) -> None:
    providers = [cls for (_, name), cls in catalogue().items() if name == vendor]
    plain = Provider.billed.__func__  # type: ignore[attr-defined] # of a classmethod

    assert any(cls.billed.__func__ is not plain for cls in providers)  # type: ignore[attr-defined]


def test_what_the_samples_run_on_has_a_price_or_a_reason_to_have_none() -> None:
    prices, missing, billed = Prices(), set(), set()
    for path in every(ROOT / "samples"):
        for _, document in parts(path.read_text()):
            if document["kind"] in KINDS:
                it = declared(document)
                vendor = it.provider.vendor
                for one in it.provider.billed(it.want) or ():
                    billed.add(vendor)
                    if prices.find(vendor, one.item, None) is None:
                        missing.add((vendor, one.item))

    assert missing == set(UNKNOWN)
    assert billed >= {one.vendor for _, one in LISTS} - {"azureOpenAI"}


@pytest.mark.filterwarnings("default:prices of")
def test_old_lists_are_told_but_break_nothing() -> None:
    old = [f"{one.vendor} ({one.as_of})" for _, one in LISTS if TODAY - one.as_of > OLD]
    if old:
        warnings.warn(f"prices of more than a year ago: {', '.join(old)}", stacklevel=1)
