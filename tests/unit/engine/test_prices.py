from datetime import date
from importlib import resources
from pathlib import Path

import pytest

from auterity.engine.prices import BadPrices, PriceList, Prices, read

GPU = PriceList(
    vendor="acme",
    as_of=date(2026, 11, 9),
    source="https://acme.example/prices",
    region="north",
    items={"gpu": 4.0, "cpu": 0.5},
    regions={"south": {"gpu": 5.0}},
)
CONTRACT = PriceList(vendor="acme", as_of=date(2026, 12, 1), source="a contract", items={"gpu": 0})


def amount(prices: Prices, item: str, region: str | None) -> tuple[float, str | None]:
    price = prices.find("acme", item, region)
    assert price is not None
    return price.amount, price.region


def test_a_price_is_that_of_the_region_else_of_the_region_that_the_list_is_about():
    prices = Prices([GPU])
    assert amount(prices, "gpu", "north") == (4.0, "north")
    assert amount(prices, "gpu", "south") == (5.0, "south")
    assert amount(prices, "cpu", "south") == (0.5, "north")
    assert amount(prices, "gpu", None) == (4.0, "north")
    assert prices.find("acme", "tpu", "north") is None
    assert prices.find("nobody", "gpu", "north") is None


def test_what_is_put_over_wins_item_by_item_and_may_be_nothing():
    prices = Prices([GPU, CONTRACT])
    assert amount(prices, "gpu", "south") == (0.0, None), "it has no region: it holds everywhere"
    assert amount(prices, "cpu", "north") == (0.5, "north")


def test_a_price_for_the_very_region_wins_over_one_put_over_for_another():
    west = GPU.model_copy(update={"region": "west", "items": {"gpu": 9.0}, "regions": {}})
    prices = Prices([GPU, west])
    assert amount(prices, "gpu", "south") == (5.0, "south")
    assert amount(prices, "gpu", "west") == (9.0, "west")
    assert amount(prices, "gpu", "east") == (9.0, "west"), "the last one put over"


def test_lists_that_come_along_are_read_when_they_are_asked_for_and_can_be_put_over():
    name = "ml.m5.large"
    listed = Prices().find("sageMaker", name, "us-east-1")
    assert listed is not None
    assert listed.amount > 0
    over = PriceList(
        vendor="sageMaker", as_of=date(2026, 12, 1), source="a contract", items={name: 0.01}
    )
    put_over = Prices([over]).find("sageMaker", name, "us-east-1")
    assert put_over is not None
    assert put_over.amount == 0.01


def test_every_list_that_comes_along_is_named_after_its_vendor_and_can_be_read():
    files = sorted(resources.files("auterity").joinpath("prices").iterdir(), key=str)
    assert files
    for file in files:
        for one in read(Path(str(file))):
            assert file.name == f"{one.vendor}.yaml"
            assert one.as_of <= date.today()  # noqa: DTZ011 - a day is near enough


ONE = """\
vendor: acme
as_of: 2026-11-09
source: a contract
items: {gpu: 1}
"""


def test_a_file_has_one_list_or_many(tmp_path):
    file = tmp_path / "prices.yaml"
    other = ONE.replace("acme", "emca")
    file.write_text(f"{ONE}---\n{other}")
    assert [found.vendor for found in read(file)] == ["acme", "emca"]
    file.write_text(
        "".join(f"- {text.strip().replace(chr(10), chr(10) + '  ')}\n" for text in (ONE, other))
    )
    assert [found.vendor for found in read(file)] == ["acme", "emca"]
    file.write_text("")
    assert read(file) == ()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("gpu: 1", "gpu: -1", "acme: items.gpu: Input should be greater than or equal to 0"),
        ("gpu: 1", "gpu: .inf", "acme: items.gpu: Input should be"),
        ("items:", "itmes:", "acme: itmes: Extra inputs are not permitted"),
        ("{gpu: 1}", "{}", "acme: there is no price in it"),
        ("vendor: acme\n", "", "list 1: vendor: Field required"),
        ("as_of: 2026-11-09", "as_of: soon", "acme: as_of: Input should be a valid date"),
        ("as_of", "currency: EUR\nas_of", "acme: currency: Input should be 'USD'"),
        ("{gpu: 1}", "{gpu", "not YAML"),
        (ONE, "- 1", "list 1: Input should be"),
    ],
)
def test_a_bad_file_is_told_by_file_place_and_problem(tmp_path, old, new, told):
    file = tmp_path / "prices.yaml"
    file.write_text(ONE.replace(old, new))
    with pytest.raises(BadPrices) as raised:
        read(file)
    assert str(raised.value).startswith(f"{file}: {told}")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BadPrices, match=r"none\.yaml: cannot be read: .*No such file"):
        read(tmp_path / "none.yaml")
